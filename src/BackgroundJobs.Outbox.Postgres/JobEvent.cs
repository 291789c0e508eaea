namespace BackgroundJobs.Outbox.Postgres;

/// <summary>One thing that happened to a job, or will.</summary>
public sealed record JobEvent
{
    /// <summary>The job.</summary>
    public required Guid JobId { get; init; }

    /// <summary>When, UTC, database clock; null when it was not kept.</summary>
    public DateTime? At { get; init; }

    /// <summary>What: enqueued, attempt 1, claimed, cancel requested, or the state it is in.</summary>
    public required string Event { get; init; }

    /// <summary>More about it.</summary>
    public string? Detail { get; init; }
}
