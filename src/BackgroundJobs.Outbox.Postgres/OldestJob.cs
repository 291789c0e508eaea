namespace BackgroundJobs.Outbox.Postgres;

/// <summary>The most due job of a queue and priority that no worker has taken yet.</summary>
public sealed record OldestJob
{
    /// <summary>The queue.</summary>
    public required string Queue { get; init; }

    /// <summary>1 (first) to 4 (last).</summary>
    public required int Priority { get; init; }

    /// <summary>The job.</summary>
    public required Guid Id { get; init; }

    /// <summary>Its kind.</summary>
    public required string Kind { get; init; }

    /// <summary>Since when it is due, UTC, database clock.</summary>
    public required DateTime RunAt { get; init; }

    /// <summary>How long it is overdue: the latency of its queue.</summary>
    public required TimeSpan WaitingFor { get; init; }

    /// <summary>True when its queue or its kind is paused.</summary>
    public bool Paused { get; init; }
}
