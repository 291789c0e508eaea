using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using CsCheck;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.BadInput;

// Schedules that the library or another program is given: refused, or kept with what is wrong; the good ones tick on, and heartbeats go on.
public sealed class ScheduleTests(ITestOutputHelper output)
{
    private const int Rows = 500;

    private static readonly Gen<string> Crons = Gen.Frequency(
        (4, Gen.OneOf("* * * * * *", "0 0 1 1 *", "@daily", "*/7 3-5 * * MON", "0 0 30 2 *", "0 0 29 2 *", "0 0 L * *", "H H * * *", "0 0 31W * *")),
        (3, Gen.OneOf("* * * *", "60 * * * *", "@never", "", " ", "*/0 * * * *", "5-1 * * * *", "* * * * * * *", "0 0 * * 8", "99999999999 * * * *", "*/99999999999999999999 * * * *")),
        (2, Corpus.Texts));

    private static readonly Gen<string> Zones = Corpus.Mostly("UTC", Gen.OneOf("Europe/Berlin", "Australia/Lord_Howe", "Europe/Atlantis", "", "../../etc/passwd", "local", "posixrules", "CET-1CEST"));

    private static readonly Gen<string?> Moments = Corpus.Mostly<string?>(null, Corpus.Moments.Select(text => (string?)text));

    [Fact]
    public async Task Rows_that_another_program_wrote_hold_up_neither_a_good_schedule_nor_a_heartbeat()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var refused = 0;
        await Gen.Select(Gen.Select(Crons, Zones, Corpus.Json), Gen.Select(Moments, Moments, Moments), Corpus.Mostly(100, Corpus.Numbers)).Array[Rows].SampleAsync(
            async rows =>
            {
                foreach (var ((cron, zone, args), (changed, last, next), limit) in rows)
                {
                    try
                    {
                        await using var insert = database.Admin.CreateCommand("""
                            INSERT INTO outbox.schedules (name, kind, args, cron, time_zone, missed, missed_limit, changed_at, last_at, next_at)
                            VALUES ('odd-' || gen_random_uuid(), 'corpus', $1::jsonb, $2, $3, 'all', $4, coalesce($5::timestamptz, now()), $6::timestamptz, $7::timestamptz)
                            """);
                        foreach (var value in new object?[] { args, cron, zone, limit, changed, last, next })
                            insert.Parameters.Add(new() { Value = value ?? DBNull.Value });
                        await insert.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
                    }
                    catch (Exception e) when (e is PostgresException or ArgumentException)
                    {
                        refused++;
                    }
                }
            },
            iter: 1,
            threads: 1);
        var kept = await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedules");
        await database.ExecuteAsync("INSERT INTO outbox.schedules (name, kind, args, cron) VALUES ('z-good', 'number', '{\"number\": 1}', '* * * * * *')");
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE kind = 'number'") >= 3, "the good one ticks", 40);
        var beat = await database.ScalarAsync<DateTime>("SELECT heartbeat_at FROM outbox.workers");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<DateTime>("SELECT heartbeat_at FROM outbox.workers") > beat, "heartbeats go on");

        // Each is dealt with, or says why not.
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedules WHERE next_at IS NULL AND problem IS NULL") == 0, "none is left over", 40);
        var problems = await database.ScalarAsync<long>("SELECT count(problem) FROM outbox.schedules");
        output.WriteLine($"{Rows} rows: {refused} refused, {kept} kept, {problems} with a problem");
        Assert.Equal(Rows, refused + kept);
        Assert.True(refused > 0 && kept > 100 && problems > 10);
        Assert.All(await new JobInspector(database.Inspector).SchedulesAsync(TestContext.Current.CancellationToken), each => Assert.DoesNotContain(each.Problem ?? "", char.IsControl));
    }

    [Fact]
    public void What_the_library_is_given_is_refused_with_a_reason_or_ticks()
    {
        var (cases, refused) = (0, 0);
        Gen.Select(Gen.Select(Corpus.Texts, Crons, Zones), Gen.OneOf(0L, 1, -1, TimeSpan.TicksPerSecond, long.MaxValue, long.MinValue), Corpus.Numbers, Gen.DateTimeOffset).Sample(
            (what, every, limit, after) =>
            {
                foreach (var schedule in new[]
                {
                    new JobSchedule { Name = what.Item1, Cron = what.Item2, TimeZone = what.Item3 },
                    new JobSchedule { Name = "s", Cron = what.Item2, TimeZone = what.Item3, MissedLimit = limit },
                    new JobSchedule { Name = "s", Every = TimeSpan.FromTicks(every) },
                })
                {
                    Interlocked.Increment(ref cases);
                    try
                    {
                        schedule.Check();
                        Assert.True(schedule.NextTicks(3, after) is [] or [_] or [_, _] or [_, _, _]);
                    }
                    catch (OutboxException)
                    {
                        Interlocked.Increment(ref refused);
                    }
                }
            },
            iter: 1000);
        output.WriteLine($"{cases} schedules, {refused} refused");
        Assert.True(refused > 100 && cases - refused > 100);
    }
}
