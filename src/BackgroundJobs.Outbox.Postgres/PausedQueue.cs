namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A queue that an operator has paused.</summary>
public sealed record PausedQueue
{
    /// <summary>Its name.</summary>
    public required string Queue { get; init; }

    /// <summary>Since when, UTC, database clock.</summary>
    public required DateTime PausedAt { get; init; }

    /// <summary>By whom.</summary>
    public string? PausedBy { get; init; }

    /// <summary>Why.</summary>
    public string? PauseReason { get; init; }
}
