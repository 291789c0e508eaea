namespace BackgroundJobs.Outbox.Postgres;

/// <summary>
/// When a job comes again and again. Each moment of it, a tick, enqueues one job, however many workers run and however often they crash.
/// By the database's clock.
/// </summary>
public sealed record JobSchedule
{
    /// <summary>Largest <see cref="MissedLimit"/>.</summary>
    public const int MaxMissedLimit = 1000;

    private const int MaxCron = 200;

    /// <summary>Its name, one in the whole database: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.</summary>
    public required string Name { get; init; }

    /// <summary>
    /// A cron expression of five fields (minute, hour, day of month, month, day of week) or of six (with the second first), as Cronos reads it;
    /// or <c>@hourly</c>, <c>@daily</c> and the like. Excludes <see cref="Every"/>.
    /// </summary>
    /// <remarks>
    /// Where the clock is set forward, a time that does not exist runs at the next one that does. Where it is set back, fixed times run once, and
    /// what has a <c>*</c>, a range or a step in its second, minute or hour keeps its distance.
    /// </remarks>
    public string? Cron { get; init; }

    /// <summary>
    /// An interval, a second to ten years, counted from the last tick; the first is one interval after the schedule was made, changed or resumed. Excludes
    /// <see cref="Cron"/>.
    /// </summary>
    public TimeSpan? Every { get; init; }

    /// <summary>The time zone of <see cref="Cron"/>, such as <c>Europe/Berlin</c>. Default: UTC, which has no summer time.</summary>
    public string TimeZone { get; init; } = "UTC";

    /// <summary>What becomes of ticks that passed while no worker ran. Default: one job for all of them.</summary>
    public MissedTicks Missed { get; init; }

    /// <summary>How many jobs <see cref="MissedTicks.All"/> may make up for at once: 1 to 1000. Default: 100, a day and a bit of quarters of an hour.</summary>
    public int MissedLimit { get; init; } = 100;

    /// <summary>
    /// Whether a tick enqueues a job although that of the last tick has not ended. Default: true. False: such a tick enqueues nothing, and is not
    /// made up for.
    /// </summary>
    public bool Overlap { get; init; } = true;

    /// <summary>The next ticks.</summary>
    /// <param name="count">How many: 1 or more.</param>
    /// <param name="after">After which moment; an interval is counted from it.</param>
    /// <returns>The ticks, UTC; fewer where there are no more (a 30th of February never comes).</returns>
    /// <exception cref="OutboxException">The schedule cannot be used as it is; the message says why.</exception>
    public IReadOnlyList<DateTime> NextTicks(int count, DateTimeOffset after)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        return Rhythm().Next(after.UtcDateTime, count);
    }

    internal ScheduleRhythm Rhythm() => ScheduleRhythm.Of(Name, Cron, Every, TimeZone);

    internal void Check()
    {
        JobName.CheckSchedule(Name);
        if (Cron?.Length > MaxCron)
            throw new OutboxException($"Schedule '{Name}' cannot be used: its cron expression has {Cron.Length} characters, more than the {MaxCron} allowed. Make two schedules of it.");
        if (MissedLimit is < 1 or > MaxMissedLimit)
            throw new OutboxException($"Schedule '{Name}' cannot be used: MissedLimit is {MissedLimit} (1 to {MaxMissedLimit}).");
        if (!Enum.IsDefined(Missed))
            throw new OutboxException($"Schedule '{Name}' cannot be used: Missed is {Missed} (Once, Skip or All).");
        Rhythm();
    }
}
