namespace BackgroundJobs.Outbox.Postgres;

/// <summary>One queue that has jobs, or that something was said about.</summary>
public sealed record QueueRow
{
    /// <summary>Its name.</summary>
    public required string Queue { get; init; }

    /// <summary>When it was paused, UTC; null when it is not.</summary>
    public DateTime? PausedAt { get; init; }

    /// <summary>By whom.</summary>
    public string? PausedBy { get; init; }

    /// <summary>Why.</summary>
    public string? PauseReason { get; init; }

    /// <summary>How long its most due job has waited; null when none waits.</summary>
    public TimeSpan? WaitingFor { get; init; }

    /// <summary>When its next job will be due, UTC; null when none is to come.</summary>
    public DateTime? NextDueAt { get; init; }
}
