namespace BackgroundJobs.Outbox.Chaos;

/// <summary>What a run is told.</summary>
/// <param name="Seconds">How long faults are injected; starting, draining and checking come on top.</param>
/// <param name="Seed">Decides the plan of faults, and what the writers write.</param>
/// <param name="Lease">Of the workers. A heartbeat is a third of it.</param>
/// <param name="Folder">For the actors' logs.</param>
internal sealed record ChaosOptions(int Seconds, int Seed, TimeSpan Lease, string Folder);
