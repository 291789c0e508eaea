namespace BackgroundJobs.Outbox.Postgres;

/// <summary>One group whose jobs may not start now, as <c>queries/blocked_groups.sql</c> shows it.</summary>
public sealed record BlockedGroupRow
{
    /// <summary>Its queue.</summary>
    public required string Queue { get; init; }

    /// <summary>The group; empty for the jobs without one.</summary>
    public required string JobGroup { get; init; }

    /// <summary><c>paused</c>, <c>rate</c>, <c>concurrency</c> or <c>order</c>.</summary>
    public required string Why { get; init; }

    /// <summary>When it is looked at again at the latest, UTC; null when somebody has to do something.</summary>
    public DateTime? Until { get; init; }

    /// <summary>Why it was paused, where an operator did that.</summary>
    public string? PauseReason { get; init; }

    /// <summary>How many of its jobs run.</summary>
    public required long Running { get; init; }

    /// <summary>In strict order, the job for which the others wait.</summary>
    public Guid? BehindJobId { get; init; }

    /// <summary>Its state.</summary>
    public string? BehindJobState { get; init; }
}
