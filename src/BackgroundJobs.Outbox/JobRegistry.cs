using System.Diagnostics.CodeAnalysis;

namespace BackgroundJobs.Outbox;

/// <summary>The kinds this application can run.</summary>
public sealed class JobRegistry
{
    private readonly Dictionary<string, JobRegistration> registrations = new(StringComparer.Ordinal);

    private readonly HashSet<string> unhandled = new(StringComparer.Ordinal);

    internal JobRegistry()
    {
    }

    /// <summary>The kinds, in alphabetical order. A worker claims only these: during a deployment older workers leave new kinds alone.</summary>
    public IReadOnlyList<string> Kinds => [.. registrations.Keys.Order(StringComparer.Ordinal)];

    internal IEnumerable<JobRegistration> All => registrations.Values;

    internal void Add(JobRegistration registration)
    {
        if (!registrations.TryAdd(registration.Kind, registration))
            throw new OutboxException(
                $"Kind '{registration.Kind}' has a handler already: two would run different code for the same job. Remove one Handle call, or give one job type another Kind.");
    }

    internal void AllowUnhandled(string kind)
    {
        JobName.CheckKind(kind);
        unhandled.Add(kind);
    }

    internal bool TryFind(string kind, [MaybeNullWhen(false)] out JobRegistration registration) => registrations.TryGetValue(kind, out registration);

    internal void CheckKnown(string kind)
    {
        if (registrations.Count > 0 && !registrations.ContainsKey(kind) && !unhandled.Contains(kind))
            throw new UnknownJobKindException(
                $"Job '{kind}' cannot be enqueued: this application has handlers, but none for this kind, so nothing here would run it. "
                + $"Call Handle for it in AddOutbox, or AllowUnhandled if another application runs it. Known: {string.Join(", ", Kinds)}.");
    }
}
