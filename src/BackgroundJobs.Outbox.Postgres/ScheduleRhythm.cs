using Cronos;

namespace BackgroundJobs.Outbox.Postgres;

// When a schedule ticks: by a cron expression in a time zone, or by an interval, whose ticks are counted from the one before. Moments are UTC.
internal sealed class ScheduleRhythm
{
    private static readonly TimeSpan Shortest = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Longest = TimeSpan.FromDays(3650);

    private readonly CronExpression? cron;
    private readonly TimeZoneInfo zone;
    private readonly TimeSpan every;

    private ScheduleRhythm(CronExpression? cron, TimeZoneInfo zone, TimeSpan every)
    {
        this.cron = cron;
        this.zone = zone;
        this.every = every;
    }

    public static ScheduleRhythm Of(string name, string? cron, TimeSpan? every, string timeZone)
    {
        if (cron is null == every is null)
            throw new OutboxException($"Schedule '{name}' cannot be used: it has {(cron is null ? "neither a cron expression nor an interval" : "both a cron expression and an interval")}. Set one of Cron and Every.");
        if (every is { } interval)
        {
            if (interval < Shortest || interval > Longest)
                throw new OutboxException($"Schedule '{name}' cannot be used: Every is {interval} (a second to ten years).");
            return new(null, TimeZoneInfo.Utc, interval);
        }

        return new(Parse(name, cron!), Zone(name, timeZone), default);
    }

    // The next ticks after a moment, which is a tick itself where an interval is counted.
    public List<DateTime> Next(DateTime after, int count)
    {
        List<DateTime> ticks = [];
        for (var at = after; ticks.Count < count && Next(at) is { } next; at = next)
            ticks.Add(next);
        return ticks;
    }

    public DateTime? Next(DateTime after) => cron is not null
        ? cron.GetNextOccurrence(after, zone)
        : after <= DateTime.MaxValue - every ? after + every : null;

    // The newest ticks after a moment and up to another, oldest first.
    public List<DateTime> Latest(DateTime after, DateTime upTo, int count)
    {
        if (upTo <= after)
            return [];
        if (cron is null)
        {
            var passed = (upTo - after).Ticks / every.Ticks;
            return [.. Enumerable.Range(0, (int)Math.Min(count, passed)).Reverse().Select(back => after + TimeSpan.FromTicks(every.Ticks * (passed - back)))];
        }

        // Backwards in windows that grow: a year of seconds is not walked to find the last hundred.
        for (var window = TimeSpan.FromMinutes(1); ; window *= 4)
        {
            var all = upTo - after <= window;
            Queue<DateTime> newest = [];
            for (var at = all ? after : upTo - window; cron.GetNextOccurrence(at, zone) is { } next && next <= upTo; at = next)
            {
                if (newest.Count == count)
                    newest.Dequeue();
                newest.Enqueue(next);
            }

            if (all || newest.Count == count)
                return [.. newest];
        }
    }

    private static CronExpression Parse(string name, string cron)
    {
        var fields = cron.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length;
        if (CronExpression.TryParse(cron, fields == 6 ? CronFormat.IncludeSeconds : CronFormat.Standard, out var expression))
            return expression;
        throw new OutboxException(
            $"Schedule '{name}' cannot be used: '{JobName.Shown(cron)}' is no cron expression. Write five fields (minute, hour, day of month, month, day of week), six with the second first, or @daily and the like.");
    }

    private static TimeZoneInfo Zone(string name, string timeZone)
    {
        if (TimeZoneInfo.TryFindSystemTimeZoneById(timeZone, out var zone))
            return zone;
        throw new OutboxException(
            $"Schedule '{name}' cannot be used here: this machine knows no time zone '{JobName.Shown(timeZone)}'. Correct the name (such as Europe/Berlin), or install the time zone data (package tzdata).");
    }
}
