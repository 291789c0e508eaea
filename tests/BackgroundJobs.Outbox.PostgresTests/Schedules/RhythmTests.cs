using System.Globalization;
using BackgroundJobs.Outbox.Postgres;
using CsCheck;

namespace BackgroundJobs.Outbox.PostgresTests.Schedules;

// When a schedule ticks: a table of the hard cases, and thousands of others against an implementation that shares nothing with ours.
public sealed class RhythmTests
{
    private static readonly string[] Zones =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Asia/Kolkata", "Pacific/Chatham"];

    // Days on which the clock is set somewhere, and some others.
    private static readonly Gen<string> Days = Gen.OneOf(
        "2026-03-28", "2026-03-07", "2026-04-04", "2026-10-03", "2026-09-05", "2026-04-23", "2026-10-29", "2026-10-24", "2026-10-31", "2026-09-26", "2026-02-27", "2027-12-31", "2028-02-28");

    private static readonly Gen<string> Minutes = Field(59, 7);

    private static readonly Gen<string> Hours = Field(23, 5);

    [Fault("S06", "a night in which the clock is set forward or back, by an hour or half of one", "a fixed time runs once, an interval keeps its distance")]
    [Theory]
    // Set forward at 2:00 to 3:00: what does not exist runs at 3:00.
    [InlineData("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-29T01:00Z 2026-03-30T00:30Z")]
    [InlineData("0 0/30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:59Z", "2026-03-29T01:00Z 2026-03-29T01:30Z 2026-03-30T00:00Z")]
    // Set back at 3:00 to 2:00: 2:30 comes twice.
    [InlineData("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-25T00:30Z 2026-10-26T01:30Z")]
    [InlineData("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-25T00:00Z 2026-10-25T00:30Z 2026-10-25T01:00Z 2026-10-25T01:30Z 2026-10-26T01:00Z")]
    [InlineData("0 */6 * * *", "Europe/Berlin", "2026-10-24T21:00Z", "2026-10-24T22:00Z 2026-10-25T05:00Z 2026-10-25T11:00Z")]
    // Half an hour: 2:00 to 2:30 forward, 2:00 to 1:30 back.
    [InlineData("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00Z", "2026-10-03T15:30Z 2026-10-04T15:15Z")]
    [InlineData("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", "2026-04-04T14:45Z 2026-04-05T15:15Z")]
    // The clock is set forward at midnight: a day that begins at one.
    [InlineData("0 0 * * *", "America/Santiago", "2026-09-05T12:00Z", "2026-09-06T04:00Z 2026-09-07T03:00Z")]
    // Six fields, macros, names, the last day, leap days.
    [InlineData("*/20 * * * * *", "UTC", "2026-01-01T00:00:50Z", "2026-01-01T00:01Z 2026-01-01T00:01:20Z")]
    [InlineData("@daily", "Asia/Kolkata", "2026-01-01T00:00Z", "2026-01-01T18:30Z 2026-01-02T18:30Z")]
    [InlineData("0 9 * * MON-FRI", "UTC", "2026-11-27T10:00Z", "2026-11-30T09:00Z 2026-12-01T09:00Z")]
    [InlineData("0 0 L * *", "UTC", "2028-02-01T00:00Z", "2028-02-29T00:00Z 2028-03-31T00:00Z")]
    [InlineData("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", "2028-02-29T00:00Z 2032-02-29T00:00Z")]
    public void The_hard_cases(string cron, string zone, string after, string expected) =>
        Assert.Equal(
            expected.Split(' ').Select(Moment),
            new JobSchedule { Name = "s", Cron = cron, TimeZone = zone }.NextTicks(expected.Split(' ').Length, Moment(after)));

    [Fact]
    public void Any_expression_ticks_as_a_reader_of_the_wall_clock_says()
    {
        var (cases, ticks) = (0, 0);
        Gen.Select(Minutes, Hours, Gen.OneOf("*", "*", "*", "1", "28-31"), Gen.OneOf("*", "*", "0", "1-5"), Gen.OneOf(Zones), Days).Sample(
            (minute, hour, day, weekday, zone, from) =>
            {
                var cron = $"{minute} {hour} {day} * {weekday}";
                var (after, upTo) = (Moment(from + "T00:00Z"), Moment(from + "T00:00Z").AddHours(60));
                var expected = new CronReference(cron).Ticks(after, upTo, TimeZoneInfo.FindSystemTimeZoneById(zone));
                var rhythm = ScheduleRhythm.Of("s", cron, null, zone);
                var actual = rhythm.Next(after, expected.Count + 1).TakeWhile(tick => tick <= upTo).ToList();
                Assert.True(expected.SequenceEqual(actual), $"{cron} in {zone} after {after:O}:\n{Text(expected)}\n{Text(actual)}");

                // Backwards it is the same.
                Assert.Equal(expected.TakeLast(5), rhythm.Latest(after, upTo, 5));
                Interlocked.Increment(ref cases);
                Interlocked.Add(ref ticks, expected.Count);
            },
            iter: 2000);
        TestContext.Current.TestOutputHelper?.WriteLine($"{cases} cases, {ticks} ticks");
        Assert.True(cases >= 2000 && ticks > 10_000);
    }

    [Fact]
    public void An_interval_keeps_its_distance_over_any_gap()
    {
        var rhythm = ScheduleRhythm.Of("s", null, TimeSpan.FromMinutes(7), "UTC");
        var start = Moment("2026-03-29T00:00Z");
        Assert.Equal([start.AddMinutes(7), start.AddMinutes(14)], rhythm.Next(start, 2));
        Assert.Equal([start.AddMinutes(49), start.AddMinutes(56)], rhythm.Latest(start, start.AddHours(1), 2));
        Assert.Equal([start.AddMinutes(7)], rhythm.Latest(start, start.AddMinutes(7), 100));
        Assert.Empty(rhythm.Latest(start, start.AddMinutes(6.99), 100));
        Assert.Empty(rhythm.Latest(start, start.AddHours(-1), 100));
        Assert.Null(rhythm.Next(DateTime.MaxValue));

        // Two thousand years of seconds, to the microsecond.
        var longAgo = new DateTime(1, 1, 1, 0, 0, 0, DateTimeKind.Utc).AddMicroseconds(1);
        Assert.Equal([start.AddSeconds(-1).AddMicroseconds(1)], ScheduleRhythm.Of("s", null, TimeSpan.FromSeconds(1), "UTC").Latest(longAgo, start, 1));
    }

    // A year of seconds is 31 million: they are not walked.
    [Fact]
    public void The_newest_ticks_of_a_long_sleep_are_found_from_its_end()
    {
        var end = Moment("2026-11-26T12:00Z");
        var seconds = ScheduleRhythm.Of("s", "* * * * * *", null, "Europe/Berlin").Latest(end.AddYears(-20), end, 1000);
        Assert.Equal((1000, end.AddSeconds(-999), end), (seconds.Count, seconds[0], seconds[^1]));
        var years = ScheduleRhythm.Of("s", "0 0 1 1 *", null, "UTC").Latest(end.AddYears(-20), end, 1000);
        Assert.Equal((20, Moment("2007-01-01T00:00Z"), Moment("2026-01-01T00:00Z")), (years.Count, years[0], years[^1]));
    }

    [Fault("D12", "a cron expression that is none, and one that never comes", "refused where it is given, with what is wrong; a 30th of February is a schedule without a next tick")]
    [Theory]
    [InlineData("* * * *")]
    [InlineData("61 * * * *")]
    [InlineData("* * * * * * *")]
    [InlineData("@sometimes")]
    [InlineData("every day")]
    [InlineData("")]
    [InlineData("0 0 * * \u0001MON")]
    public void What_is_no_cron_expression_is_refused_with_what_is_wrong(string cron)
    {
        var refused = Assert.Throws<OutboxException>(() => new JobSchedule { Name = "nightly", Cron = cron }.NextTicks(1, DateTimeOffset.UnixEpoch));
        Assert.Contains("'nightly'", refused.Message, StringComparison.Ordinal);
        Assert.Contains("no cron expression", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(refused.Message, char.IsControl);
    }

    [Fact]
    public void What_else_a_schedule_cannot_be_is_said_at_once()
    {
        Refused("neither", new() { Name = "s" });
        Refused("both", new() { Name = "s", Cron = "@daily", Every = TimeSpan.FromHours(1) });
        Refused("a second to ten years", new() { Name = "s", Every = TimeSpan.FromMilliseconds(999) });
        Refused("a second to ten years", new() { Name = "s", Every = TimeSpan.FromDays(3651) });
        Refused("no time zone 'Europe/Atlantis'", new() { Name = "s", Cron = "@daily", TimeZone = "Europe/Atlantis" });
        Refused("MissedLimit is 0", new() { Name = "s", Cron = "@daily", MissedLimit = 0 });
        Refused("Missed is 7", new() { Name = "s", Cron = "@daily", Missed = (MissedTicks)7 });
        Refused("201 characters", new() { Name = "s", Cron = new string('1', 201) });
        Refused("Schedule name 'A b' cannot be used", new() { Name = "A b", Cron = "@daily" });
        Assert.Empty(new JobSchedule { Name = "s", Cron = "0 0 30 2 *" }.NextTicks(3, DateTimeOffset.UnixEpoch));

        static void Refused(string why, JobSchedule schedule) =>
            Assert.Contains(why, Assert.ThrowsAny<OutboxException>(schedule.Check).Message, StringComparison.Ordinal);
    }

    private static Gen<string> Field(int last, int step) => Gen.Frequency(
        (3, Gen.Int[0, last].Select(n => $"{n}")),
        (2, Gen.Int[0, last].Array[2, 3].Select(all => string.Join(',', all))),
        (2, Gen.Const("*")),
        (2, Gen.Int[2, step * 4].Select(n => $"*/{n}")),
        (2, Gen.Int[0, last / 2].Select(Gen.Int[0, last / 2], (low, more) => $"{low}-{low + more}")));

    private static DateTime Moment(string text) => DateTime.Parse(text, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal);

    private static string Text(List<DateTime> moments) => string.Join(' ', moments.Select(each => each.ToString("MM-ddTHH:mm", CultureInfo.InvariantCulture)));
}
