namespace BackgroundJobs.Outbox.Postgres;

/// <summary>One schedule, as it is stored.</summary>
public sealed record ScheduleRow
{
    /// <summary>Its name.</summary>
    public required string Schedule { get; init; }

    /// <summary>The kind of its jobs.</summary>
    public required string Kind { get; init; }

    /// <summary>The queue of its jobs.</summary>
    public required string Queue { get; init; }

    /// <summary>The group of its jobs; null when they have none.</summary>
    public string? JobGroup { get; init; }

    /// <summary>The cron expression; null where <see cref="Every"/> is set.</summary>
    public string? Cron { get; init; }

    /// <summary>The interval; null where <see cref="Cron"/> is set.</summary>
    public TimeSpan? Every { get; init; }

    /// <summary>The time zone of the cron expression.</summary>
    public required string TimeZone { get; init; }

    /// <summary>once, skip or all: see <see cref="MissedTicks"/>.</summary>
    public required string Missed { get; init; }

    /// <summary>How many missed ticks are made up for at once, where all are.</summary>
    public int MissedLimit { get; init; }

    /// <summary>Whether a tick enqueues although the last job has not ended.</summary>
    public bool Overlap { get; init; }

    /// <summary>Whether an application declares it at its start.</summary>
    public bool IsDeclared { get; init; }

    /// <summary>Since when it is paused, UTC; null when it is not.</summary>
    public DateTime? PausedAt { get; init; }

    /// <summary>The last tick that was dealt with, UTC.</summary>
    public DateTime? LastAt { get; init; }

    /// <summary>The last job it enqueued.</summary>
    public Guid? LastJobId { get; init; }

    /// <summary>How that job is; null when there is none, or it is forgotten.</summary>
    public string? LastJobState { get; init; }

    /// <summary>The next tick, UTC; null when it is paused, never ticks again, or no worker has seen it yet.</summary>
    public DateTime? NextAt { get; init; }

    /// <summary>Why a worker could not look after it; null when all is well.</summary>
    public string? Problem { get; init; }

    /// <summary>The next ticks, worked out here.</summary>
    /// <param name="count">How many: 1 or more.</param>
    /// <param name="now">The moment; of an interval, <see cref="NextAt"/> is the first.</param>
    /// <returns>The ticks, UTC; fewer where there are no more, none while it is paused.</returns>
    /// <exception cref="OutboxException">This machine cannot read it: the message says why.</exception>
    public IReadOnlyList<DateTime> NextTicks(int count, DateTimeOffset now)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        if (PausedAt is not null)
            return [];
        var rhythm = ScheduleRhythm.Of(Schedule, Cron, Every, TimeZone);
        return Every is not null && NextAt is { } first ? [first, .. rhythm.Next(first, count - 1)] : rhythm.Next(now.UtcDateTime, count);
    }
}
