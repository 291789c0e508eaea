namespace BackgroundJobs.Outbox.Postgres;

/// <summary>One queue with limits and how much of them is used, as <c>queries/limits.sql</c> shows it.</summary>
public sealed record LimitsRow
{
    /// <summary>Its name.</summary>
    public required string Queue { get; init; }

    /// <summary>How many may run at a time; null for any number.</summary>
    public int? Concurrency { get; init; }

    /// <summary>How many run; null where that has no limit.</summary>
    public long? Running { get; init; }

    /// <summary>How many may start in a period; null for any number.</summary>
    public int? Rate { get; init; }

    /// <summary>That period.</summary>
    public TimeSpan? RatePeriod { get; init; }

    /// <summary>How many have started in the last period; null where that has no limit.</summary>
    public long? Started { get; init; }

    /// <summary>How many of a group may run at a time; null for any number.</summary>
    public int? GroupConcurrency { get; init; }

    /// <summary>How many of a group may start in a period; null for any number.</summary>
    public int? GroupRate { get; init; }

    /// <summary>That period.</summary>
    public TimeSpan? GroupRatePeriod { get; init; }

    /// <summary><c>any</c>, <c>fifo</c> or <c>strict</c>.</summary>
    public required string GroupOrder { get; init; }

    /// <summary>Until when nothing of it starts, UTC; null when it is not paused for a time.</summary>
    public DateTime? PausedUntil { get; init; }

    /// <summary>Groups in line, up to 10,000.</summary>
    public required long Ready { get; init; }

    /// <summary>Groups that may not start another job now, up to 20,000.</summary>
    public required long Blocked { get; init; }

    /// <summary>Groups that wait for a dead job, up to 10,000.</summary>
    public required long Failed { get; init; }
}
