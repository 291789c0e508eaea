using System.Globalization;

namespace BackgroundJobs.Outbox.PostgresTests.Schedules;

// What a cron expression means, worked out minute by minute on the wall clock, with nothing of the library that is tested:
// a time that does not exist runs when the clock goes on; one that comes twice runs at the first, or at both where the expression is one of
// intervals (a *, a range or a step in its minute or hour).
internal sealed class CronReference
{
    private readonly string[] fields;

    public CronReference(string cron)
    {
        fields = cron.Split(' ');
        Assert.Equal(5, fields.Length);
    }

    private bool IsInterval => (fields[0] + fields[1]).AsSpan().ContainsAny("*-/");

    public List<DateTime> Ticks(DateTime after, DateTime upTo, TimeZoneInfo zone)
    {
        SortedSet<DateTime> ticks = [];
        var last = Wall(upTo, zone).AddHours(4);
        for (var wall = Wall(after, zone).AddHours(-4); wall <= last; wall = wall.AddMinutes(1))
        {
            if (Matches(wall))
                ticks.UnionWith(Moments(wall, zone));
        }

        return [.. ticks.Where(tick => tick > after && tick <= upTo)];
    }

    private IEnumerable<DateTime> Moments(DateTime wall, TimeZoneInfo zone)
    {
        if (zone.IsInvalidTime(wall))
        {
            var next = wall;
            while (zone.IsInvalidTime(next))
                next = next.AddMinutes(1);
            return [TimeZoneInfo.ConvertTimeToUtc(next, zone)];
        }

        if (!zone.IsAmbiguousTime(wall))
            return [TimeZoneInfo.ConvertTimeToUtc(wall, zone)];
        var both = zone.GetAmbiguousTimeOffsets(wall).Select(offset => DateTime.SpecifyKind(wall - offset, DateTimeKind.Utc)).Order();
        return IsInterval ? both : both.Take(1);
    }

    private bool Matches(DateTime wall) =>
        Has(fields[0], wall.Minute, 59) && Has(fields[1], wall.Hour, 23) && Has(fields[2], wall.Day, 31) && Has(fields[3], wall.Month, 12) && Has(fields[4], (int)wall.DayOfWeek, 6);

    private static bool Has(string field, int value, int last) => field.Split(',').Any(part =>
    {
        var (range, step) = part.Split('/') is [var before, var after] ? (before, Number(after)) : (part, 1);
        var (from, to) = range == "*" ? (0, last) : range.Split('-') is [var low, var high] ? (Number(low), Number(high)) : (Number(range), step == 1 ? Number(range) : last);
        return value >= from && value <= to && (value - from) % step == 0;
    });

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);

    private static DateTime Wall(DateTime utc, TimeZoneInfo zone)
    {
        var wall = TimeZoneInfo.ConvertTimeFromUtc(utc, zone);
        return DateTime.SpecifyKind(new(wall.Year, wall.Month, wall.Day, wall.Hour, wall.Minute, 0), DateTimeKind.Unspecified);
    }
}
