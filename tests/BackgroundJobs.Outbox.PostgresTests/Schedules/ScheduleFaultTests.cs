using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Schedules;

// What goes wrong around a tick: it enqueues one job, or the next worker does it.
public sealed class ScheduleFaultTests(ITestOutputHelper output)
{
    private const string OncePerTick = """
        SELECT concat_ws('|', count(*), count(job_id), count(DISTINCT job_id), (SELECT count(*) FROM outbox.all_jobs))
        FROM outbox.schedule_ticks
        """;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fault("S01", "ten sessions find the same tick at once, again and again", "one of them enqueues it")]
    [Fact]
    public async Task However_many_look_at_once_a_tick_enqueues_one_job()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await ScheduleTests.DueAsync(database);
        JobQueue queue = new(database.DataSource);
        for (var round = 1; round <= 20; round++)
        {
            var read = await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => queue.DueSchedulesAsync([], Cancellation)));
            var jobs = await Task.WhenAll(read.Select(each => queue.EnqueueTicksAsync([.. each.Due.Select(queue.MoveOf)], Cancellation)));
            Assert.Equal(1, jobs.Sum());
            Assert.Equal($"{round}|{round}|{round}|{round}", await database.ScalarAsync<string>(OncePerTick));

            // Each time twice as far: none comes to lie for a moment where another one still is.
            await database.ExecuteAsync($"UPDATE outbox.schedules SET changed_at = now() - interval '1 day', last_at = last_at - interval '1 hour', next_at = NULL; UPDATE outbox.schedule_ticks SET tick_at = tick_at - interval '1 day' * {1 << round}");
        }
    }

    [Fault("S03", "a worker freezes between reading a tick and enqueuing it, and goes on when another one has done it", "nothing: the schedule has moved on")]
    [Fault("S04", "the answer to an enqueued tick is lost", "it is not enqueued again")]
    [Theory]
    [InlineData("ticks")]
    [InlineData("ticks answered")]
    public async Task What_stops_between_two_statements_enqueues_nothing_later(string point)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await ScheduleTests.DueAsync(database);
        var (frozen, goOn) = (new TaskCompletionSource(), new TaskCompletionSource());
        JobQueue slow = new(database.DataSource, new OutboxOptions
        {
            FaultPoint = async at =>
            {
                if (at == point)
                {
                    frozen.SetResult();
                    await goOn.Task;
                    if (point == "ticks answered")
                        throw new NpgsqlException("the answer is lost");
                }
            },
        });
        JobQueue quick = new(database.DataSource);
        var seen = (await slow.DueSchedulesAsync([], Cancellation)).Due.ConvertAll(slow.MoveOf);
        var late = slow.EnqueueTicksAsync(seen, Cancellation);
        await frozen.Task;
        var due = (await quick.DueSchedulesAsync([], Cancellation)).Due;
        if (due.Count > 0)
            Assert.Equal(1, await quick.EnqueueTicksAsync([.. due.Select(quick.MoveOf)], Cancellation));
        goOn.SetResult();
        if (point == "ticks")
            Assert.Equal(0, await late);
        else
            await Assert.ThrowsAsync<NpgsqlException>(() => late);
        Assert.Equal("1|1|1|1", await database.ScalarAsync<string>(OncePerTick));
    }

    [Fault("S02", "workers are killed one after the other, whichever did it last", "there is no leader: the next heartbeat of any other one sees the tick")]
    [Fault("S13", "no worker knows the kinds that are due", "they are enqueued all the same: a tick needs no handler")]
    [Fact]
    public async Task Workers_that_come_and_go_enqueue_every_tick_once()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        await database.ExecuteAsync("""
            INSERT INTO outbox.schedules (name, kind, args, cron, missed)
            SELECT 's' || n, 'nobody_knows', '{}', '* * * * * *', 'all' FROM generate_series(1, 20) AS n
            """);
        for (var n = 0; n < 4; n++)
        {
            await using var first = await WorkerProcess.StartAsync(database, lease: 1.5);
            await using var second = await WorkerProcess.StartAsync(database, lease: 1.5);
            var ticks = await CountAsync();
            await Eventually.TrueAsync(async () => await CountAsync() >= ticks + 25, "they tick");
            first.Kill();
            ticks = await CountAsync();
            await Eventually.TrueAsync(async () => await CountAsync() >= ticks + 25, "the other one does it");
            second.Kill();
        }

        var all = await CountAsync();
        output.WriteLine($"{all} ticks");
        Assert.Equal($"{all}|{all}|{all}|{all}", await database.ScalarAsync<string>(OncePerTick));

        // Each second of each schedule from its first to its last, also those in which nobody lived.
        Assert.Equal(0L, await database.ScalarAsync<long>("""
            SELECT count(*)
            FROM (SELECT schedule, extract(epoch FROM max(tick_at) - min(tick_at)) + 1 AS expected, count(*) AS found FROM outbox.schedule_ticks GROUP BY schedule) AS each
            WHERE found <> expected
            """));

        Task<long> CountAsync() => database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks");
    }

    [Fault("S05", "a worker's own clock is wrong by minutes", "ticks are due by the database's")]
    [Fact]
    public async Task A_workers_clock_decides_nothing()
    {
        Assert.SkipWhen(ShiftedClock.Library is null, "libfaketime is not installed (apt-get install faketime)");
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        var clock = Path.GetTempFileName();
        await File.WriteAllTextAsync(clock, "+7m", Cancellation);
        await database.ExecuteAsync("INSERT INTO outbox.schedules (name, kind, args, cron) VALUES ('s', 'nobody_knows', '{}', '* * * * * *')");
        await using var ahead = await WorkerProcess.StartAsync(database, clockFile: clock);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks") >= 3, "it ticks");
        Assert.True(await database.ScalarAsync<bool>("SELECT bool_and(tick_at <= made_at AND made_at <= clock_timestamp()) FROM outbox.schedule_ticks"));
        ahead.Kill();
        File.Delete(clock);
    }

    [Fault("S07", "a schedule in a time zone that the worker's machine does not have", "it is named, kept and tried again; the others tick")]
    [Fault("S08", "a schedule that nobody can read, one whose job PostgreSQL refuses, one with arguments of a lost key", "the others tick")]
    [Fact]
    public async Task One_bad_schedule_holds_up_no_other()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON outbox.jobs FOR EACH ROW WHEN (NEW.kind = 'refused') EXECUTE FUNCTION refuse();
            INSERT INTO outbox.schedules (name, kind, args, cron, time_zone)
            VALUES ('a-zone', 'number', '{"number": 1}', '* * * * * *', 'Europe/Atlantis'),
                   ('b-cron', 'number', '{"number": 1}', 'whenever', 'UTC'),
                   ('c-refused', 'refused', '{}', '* * * * * *', 'UTC'),
                   ('d-key', 'number', '{"$encrypted": "lost", "data": "AAAA"}', '* * * * * *', 'UTC'),
                   ('e-good', 'number', '{"number": 2}', '* * * * * *', 'UTC');
            """);
        await using var worker = await WorkerHost.StartAsync(database, o =>
        {
            o.Encryption = new JobEncryption("k1", new byte[32]);
            o.Handle<NumberJob>((_, _, _) => Task.CompletedTask);
        });
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") >= 3, "the good one ticks");
        var problems = (await new JobInspector(database.Inspector).SchedulesAsync(Cancellation)).ToDictionary(each => each.Schedule, each => each.Problem);
        Assert.StartsWith("Schedule 'a-zone' cannot be used here: this machine knows no time zone 'Europe/Atlantis'.", problems["a-zone"], StringComparison.Ordinal);
        Assert.StartsWith("Schedule 'b-cron' cannot be used: 'whenever' is no cron expression.", problems["b-cron"], StringComparison.Ordinal);
        Assert.Equal("Schedule 'c-refused': PostgreSQL refuses its job (P0001 not today).", problems["c-refused"]);
        Assert.StartsWith("The arguments are encrypted with key 'lost'", problems["d-key"], StringComparison.Ordinal);
        Assert.Null(problems["e-good"]);
        Assert.Contains("Schedule 'b-cron' cannot be used", worker.Log.Text, StringComparison.Ordinal);

        // What PostgreSQL says may come from the arguments.
        Assert.Contains("Schedule 'c-refused': PostgreSQL refuses its job (P0001).", worker.Log.Text, StringComparison.Ordinal);
        Assert.DoesNotContain("not today", worker.Log.Text, StringComparison.Ordinal);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks WHERE schedule <> 'e-good'"));

        // Mended, it ticks as soon as the minute is over; a new worker need not wait for that.
        await database.ExecuteAsync("UPDATE outbox.schedules SET cron = '* * * * * *' WHERE name = 'b-cron'");
        await using var other = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<bool>("SELECT problem IS NULL AND last_at IS NOT NULL FROM outbox.schedules WHERE name = 'b-cron'"), "it ticks");
    }

    [Fault("S11", "the row of a schedule is locked by a session that hangs", "the other schedules tick")]
    [Fact]
    public async Task A_schedule_that_somebody_has_locked_is_passed_over()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("""
            INSERT INTO outbox.schedules (name, kind, args, cron)
            VALUES ('locked', 'number', '{"number": 1}', '* * * * * *'), ('free', 'number', '{"number": 1}', '* * * * * *')
            """);
        await using var holder = await database.Admin.OpenConnectionAsync(Cancellation);
        await using var holding = await holder.BeginTransactionAsync(Cancellation);
        await using (var hold = new NpgsqlCommand("SELECT FROM outbox.schedules WHERE name = 'locked' FOR UPDATE", holder, holding))
            await hold.ExecuteNonQueryAsync(Cancellation);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => await TicksAsync("free") >= 3, "the free one ticks");
        Assert.Equal(0, await TicksAsync("locked"));
        await holding.RollbackAsync(Cancellation);
        await Eventually.TrueAsync(async () => await TicksAsync("locked") >= 2, "and then the other one");

        Task<long> TicksAsync(string name) => database.ScalarAsync<long>($"SELECT count(*) FROM outbox.schedule_ticks WHERE schedule = '{name}'");
    }

    // Its version begins at 1 again.
    [Fact]
    public async Task A_tick_of_a_schedule_that_was_deleted_and_made_anew_enqueues_nothing()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await ScheduleTests.DueAsync(database);
        JobQueue queue = new(database.DataSource);
        var old = (await queue.DueSchedulesAsync([], Cancellation)).Due.ConvertAll(queue.MoveOf);
        Assert.True(await new JobAdmin(database.Operator).DeleteScheduleAsync("nightly", Cancellation));
        await database.ExecuteAsync("INSERT INTO outbox.schedules (name, kind, args, every) VALUES ('nightly', 'number', '{\"number\": 2}', interval '1 hour')");
        Assert.Equal(0, await queue.EnqueueTicksAsync(old, Cancellation));
        Assert.Equal("0|0|0|0", await database.ScalarAsync<string>(OncePerTick));
    }

    [Fact]
    public async Task Ticks_are_forgotten_when_finished_jobs_are()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("INSERT INTO outbox.schedule_ticks (schedule, tick_at, made_at) VALUES ('s', now() - interval '15 days', now() - interval '15 days'), ('s', now() - interval '13 days', now() - interval '13 days')");
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks") == 1, "the old one is forgotten");
        Assert.True(await database.ScalarAsync<bool>("SELECT tick_at > now() - interval '14 days' FROM outbox.schedule_ticks"));
    }

    [Fact]
    public async Task A_database_clock_that_is_set_back_ticks_nothing_twice_and_nothing_before_its_time()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("""
            INSERT INTO outbox.schedules (name, kind, args, every) VALUES ('s', 'number', '{}', interval '1 min');
            UPDATE outbox.schedules SET changed_at = now() - interval '1 day', last_at = now() + interval '1 hour', next_at = NULL
            """);
        JobQueue queue = new(database.DataSource);
        var due = (await queue.DueSchedulesAsync([], Cancellation)).Due;
        Assert.Equal(0, await queue.EnqueueTicksAsync([.. due.Select(queue.MoveOf)], Cancellation));
        Assert.True(await database.ScalarAsync<bool>("SELECT next_at = last_at + interval '1 min' AND last_at > now() FROM outbox.schedules"));
        Assert.Empty((await queue.DueSchedulesAsync([], Cancellation)).Due);
    }
}
