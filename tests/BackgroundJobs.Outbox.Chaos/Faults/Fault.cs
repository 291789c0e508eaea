namespace BackgroundJobs.Outbox.Chaos.Faults;

/// <summary>One way to hurt the system: injects, holds and heals.</summary>
/// <param name="Name">As it stands in a plan.</param>
/// <param name="InjectAsync">Returns what proves that it took effect; null when it did not.</param>
internal sealed record Fault(string Name, Func<Arena, Random, CancellationToken, Task<string?>> InjectAsync);

/// <summary>A fault of a run, as it was.</summary>
/// <param name="Name">Which one.</param>
/// <param name="At">When it began, since the run's begin.</param>
/// <param name="For">How long until it was healed.</param>
/// <param name="Effect">What proves that it took effect; null: it did not.</param>
/// <param name="Error">Why it could not be injected, or null.</param>
internal sealed record InjectedFault(string Name, TimeSpan At, TimeSpan For, string? Effect, string? Error);

/// <summary>A fault that this machine does not allow, and why.</summary>
/// <param name="Name">Which one.</param>
/// <param name="Reason">For people.</param>
internal sealed record MissingFault(string Name, string Reason);
