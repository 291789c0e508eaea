namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A job that was not run because of another one with its unique key.</summary>
public sealed record UniqueJobRow
{
    /// <summary>The job.</summary>
    public required Guid JobId { get; init; }

    /// <summary>Its kind.</summary>
    public required string Kind { get; init; }

    /// <summary>The key.</summary>
    public required string UniqueKey { get; init; }

    /// <summary>Its rule: waiting, unfinished, within, replace, debounce or throttle.</summary>
    public required string Rule { get; init; }

    /// <summary>The job that was there, or that has come in its place.</summary>
    public required Guid MetId { get; init; }

    /// <summary>When it was enqueued, UTC.</summary>
    public required DateTime CreatedAt { get; init; }

    /// <summary>When that was decided, UTC.</summary>
    public required DateTime MetAt { get; init; }
}
