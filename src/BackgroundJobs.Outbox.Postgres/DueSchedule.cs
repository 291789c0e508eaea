namespace BackgroundJobs.Outbox.Postgres;

// A schedule as it was read, by the database's clock, and what is to be done about it now.
internal sealed record DueSchedule
{
    // How late a tick may be and still count as kept.
    private static readonly TimeSpan Grace = TimeSpan.FromMinutes(1);

    public required string Name { get; init; }

    public required int Version { get; init; }

    public string? Cron { get; init; }

    public TimeSpan? Every { get; init; }

    public required string TimeZone { get; init; }

    public required MissedTicks Missed { get; init; }

    public required int MissedLimit { get; init; }

    public required bool Overlap { get; init; }

    public required DateTime ChangedAt { get; init; }

    public DateTime? LastAt { get; init; }

    public required string Kind { get; init; }

    public required string Args { get; init; }

    public required DateTime Now { get; init; }

    // Which ticks enqueue a job now, up to which one it is dealt with then, and the next one. Throws OutboxException where it cannot be read here.
    public (IReadOnlyList<DateTime> Ticks, DateTime? MovedTo, DateTime? Next) Due()
    {
        var rhythm = ScheduleRhythm.Of(Name, Cron, Every, TimeZone);
        var from = LastAt > ChangedAt ? LastAt.Value : ChangedAt;
        var ticks = rhythm.Latest(from, Now, Missed == MissedTicks.All && Overlap ? MissedLimit : 1);
        if (ticks.Count == 0)
            return (ticks, LastAt, rhythm.Next(from));
        var newest = ticks[^1];
        return (Missed == MissedTicks.Skip && Now - newest > Grace ? [] : ticks, newest, rhythm.Next(newest));
    }
}
