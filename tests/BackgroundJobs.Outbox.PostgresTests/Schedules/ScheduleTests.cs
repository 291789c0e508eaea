using System.Collections.Concurrent;
using System.Security.Cryptography;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.HowToFail;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Worker;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Schedules;

// Schedules as an application and an operator use them.
public sealed class ScheduleTests
{
    private const string Ticks = "SELECT concat_ws('|', count(*), count(job_id), count(DISTINCT job_id)) FROM outbox.schedule_ticks";

    private static readonly JobSchedule Nightly = new() { Name = "nightly", Cron = "0 2 * * *", TimeZone = "Europe/Berlin" };

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_declared_schedule_enqueues_its_job_at_each_tick_with_what_it_was_meant_for()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<(NumberJob Job, ScheduleTick? Tick, string Queue, string Tenant)> seen = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((job, context, _) =>
            {
                seen.Enqueue((job, context.Tick, context.Queue, context.Headers["tenant"]));
                return Task.CompletedTask;
            }),
            o => o.Queue("reports").Schedule(
                new() { Name = "each-second", Cron = "* * * * * *" },
                new NumberJob(7),
                new() { Queue = "reports", Headers = new Dictionary<string, string> { ["tenant"] = "a" } }));
        await Eventually.TrueAsync(() => seen.Count >= 3, "it ticks");
        await worker.StopAsync();

        Assert.All(seen, each => Assert.Equal((new NumberJob(7), "each-second", "reports", "a"), (each.Job, each.Tick?.Schedule, each.Queue, each.Tenant)));
        var ticks = seen.Select(each => each.Tick!.At).ToList();
        Assert.Equal(ticks.Distinct(), ticks);
        Assert.All(ticks, at => Assert.Equal((DateTimeKind.Utc, 0), (at.Kind, at.Millisecond)));

        // None is left out, and none came before its time.
        Assert.Equal(Enumerable.Range(0, ticks.Count).Select(n => ticks.Min().AddSeconds(n)), ticks.Order());
        Assert.True(await database.ScalarAsync<bool>("SELECT bool_and(made_at >= tick_at) FROM outbox.schedule_ticks"));
    }

    // A fleet that has slept; the newest tick of each is at most an hour old, and none is near.
    [Fault("S09", "all workers are down for a day", "one job, none or each up to a limit, as the schedule says")]
    [Theory]
    [InlineData("once", 1)]
    [InlineData("skip", 0)]
    [InlineData("all", 20)]
    public async Task What_was_missed_is_made_up_for_as_the_schedule_says(string missed, int jobs)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync($"""
            INSERT INTO outbox.schedules (name, kind, args, every, missed, missed_limit)
            VALUES ('s', 'number', jsonb_build_object('number', 1), interval '57 min 30 s', '{missed}', 20);
            UPDATE outbox.schedules SET changed_at = now() - 24 * interval '57 min 30 s' - interval '10 min'
            """);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<bool>("SELECT next_at > now() FROM outbox.schedules"), "it is dealt with");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == jobs, "its jobs run");
        Assert.Equal($"{jobs}|{jobs}|{jobs}", await database.ScalarAsync<string>(Ticks));

        // The newest, and the rhythm goes on from it: in 47.5 minutes.
        Assert.True(await database.ScalarAsync<bool>($"SELECT {jobs} = 0 OR min(tick_at) BETWEEN now() - {jobs} * interval '57 min 30 s' AND now() FROM outbox.schedule_ticks"));
        Assert.True(await database.ScalarAsync<bool>("SELECT next_at - now() BETWEEN interval '46 min' AND interval '48 min' AND next_at - last_at = every FROM outbox.schedules"));
    }

    [Fault("S12", "a tick comes while the job of the last one runs", "it enqueues nothing, where the schedule says so")]
    [Fact]
    public async Task Where_jobs_may_not_overlap_a_tick_enqueues_nothing_until_the_last_one_has_ended()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        using var gate = new SemaphoreSlim(0);
        var (running, most) = (0, 0);
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, _, token) =>
            {
                most = Math.Max(most, Interlocked.Increment(ref running));
                await gate.WaitAsync(token);
                Interlocked.Decrement(ref running);
            }),
            o => o.Schedule(new() { Name = "s", Cron = "* * * * * *", Overlap = false }, new NumberJob(1)));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks WHERE job_id IS NULL") >= 2, "ticks pass");
        Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
        Assert.Null(await new JobAdmin(database.Operator).RunScheduleAsync("s", Cancellation));
        gate.Release();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(job_id) FROM outbox.schedule_ticks") == 2, "the next one runs");
        gate.Release(1000);
        Assert.Equal(1, most);
    }

    [Fact]
    public async Task An_operator_changes_pauses_resumes_runs_and_deletes_without_a_deployment()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        JobInspector inspector = new(database.Inspector);
        await admin.SetScheduleAsync(Nightly with { Cron = "0 0 1 1 *" }, new NumberJob(1), cancellationToken: Cancellation);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => (await OneAsync()).NextAt is not null, "a worker has seen it");
        var seen = await OneAsync();
        Assert.Equal(("nightly", "number", "default", "0 0 1 1 *", "Europe/Berlin", false), (seen.Schedule, seen.Kind, seen.Queue, seen.Cron, seen.TimeZone, seen.IsDeclared));
        Assert.Equal(seen.NextAt, seen.NextTicks(1, TimeProvider.System.GetUtcNow())[0]);

        // Run now: its ticks stay what they are.
        var id = await admin.RunScheduleAsync("nightly", Cancellation);
        await Eventually.TrueAsync(async () => (await OneAsync()).LastJobState == "completed", "it ran");
        Assert.Equal((id, seen.NextAt, null), ((await OneAsync()).LastJobId, (await OneAsync()).NextAt, (await OneAsync()).LastAt));

        // Changed: the new rhythm begins now.
        await admin.SetScheduleAsync(Nightly with { Cron = null, Every = TimeSpan.FromSeconds(1) }, new NumberJob(2), cancellationToken: Cancellation);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE args = '{\"number\": 2}'") >= 2, "it ticks each second");

        // Paused: nothing; resumed: what was missed meanwhile is not made up for.
        Assert.True(await admin.PauseScheduleAsync("nightly", Cancellation));
        Assert.False(await admin.PauseScheduleAsync("nightly", Cancellation));
        Assert.Empty((await OneAsync()).NextTicks(3, TimeProvider.System.GetUtcNow()));
        var before = await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks");
        await database.ExecuteAsync("UPDATE outbox.schedules SET changed_at = now() - interval '1 hour', last_at = now() - interval '1 hour', next_at = now() - interval '1 hour', missed = 'all'");
        var beats = await BeatsAsync();
        await Eventually.TrueAsync(async () => await BeatsAsync() >= beats + TimeSpan.FromSeconds(3), "two heartbeats pass");
        Assert.Equal(before, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks"));
        Assert.True(await admin.ResumeScheduleAsync("nightly", Cancellation));
        Assert.False(await admin.ResumeScheduleAsync("nightly", Cancellation));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks") > before, "it goes on");
        Assert.InRange(await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks"), before + 1, before + 20);

        Assert.True(await admin.DeleteScheduleAsync("nightly", Cancellation));
        Assert.False(await admin.DeleteScheduleAsync("nightly", Cancellation));
        Assert.Null(await admin.RunScheduleAsync("nightly", Cancellation));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks"));
        Assert.Equal(
            ["delete_schedule", "pause_schedule", "resume_schedule", "run_schedule", "set_schedule", "set_schedule"],
            (await inspector.OperationsAsync(Cancellation)).Select(each => each.Verb).Order());

        async Task<ScheduleRow> OneAsync() => Assert.Single(await inspector.SchedulesAsync(Cancellation));

        Task<DateTime> BeatsAsync() => database.ScalarAsync<DateTime>("SELECT max(heartbeat_at) FROM outbox.workers");
    }

    [Fault("S10", "a deployment declares a schedule otherwise while a worker of the old version has read its tick", "the tick of the old version enqueues nothing")]
    [Fact]
    public async Task What_was_worked_out_from_an_older_version_enqueues_nothing()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        await DueAsync(database);
        var old = queue.MoveOf((await queue.DueSchedulesAsync([], Cancellation)).Due.Single());
        await new JobAdmin(database.Operator).SetScheduleAsync(Nightly, new NumberJob(2), cancellationToken: Cancellation);
        Assert.Equal(0, await queue.EnqueueTicksAsync([old], Cancellation));
        Assert.Equal("0|0|0", await database.ScalarAsync<string>(Ticks));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fact]
    public async Task What_code_declares_again_leaves_an_operators_change_alone_and_what_it_declares_otherwise_does_not()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await StartAsync(Nightly, 1);
        await new JobAdmin(database.Operator).SetScheduleAsync(Nightly with { Cron = "0 5 * * *" }, new NumberJob(9), cancellationToken: Cancellation);
        await StartAsync(Nightly, 1);
        Assert.Equal("0 5 * * *|9|t", await SeenAsync());
        await StartAsync(Nightly, 2);
        Assert.Equal("0 2 * * *|2|t", await SeenAsync());

        Task<string> SeenAsync() => database.ScalarAsync<string>("SELECT concat_ws('|', cron, args->>'number', declared IS NOT NULL) FROM outbox.schedules");

        async Task StartAsync(JobSchedule schedule, int number)
        {
            await using var worker = await WorkerHost.StartAsync(
                database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask), o => o.Schedule(schedule, new NumberJob(number)));
        }
    }

    [Fact]
    public async Task Its_jobs_have_its_group_which_is_changed_as_all_else_is()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        JobInspector inspector = new(database.Inspector);
        foreach (var group in new[] { "tenant 7", "tenant 8", null })
        {
            await admin.SetScheduleAsync(Nightly, new NumberJob(1), new() { Group = group }, Cancellation);
            Assert.Equal(group, Assert.Single(await inspector.SchedulesAsync(Cancellation)).JobGroup);
            var id = await admin.RunScheduleAsync("nightly", Cancellation);
            Assert.Equal(group, (await new JobInspector(database.Operator).FindAsync(id!.Value, Cancellation))!.JobGroup);
        }

        // What was worked out before the change enqueues nothing, also where it was made by hand.
        var version = await database.ScalarAsync<int>("SELECT version FROM outbox.schedules");
        await database.ExecuteAsync("UPDATE outbox.schedules SET job_group = 'by hand'");
        Assert.Equal(version + 1, await database.ScalarAsync<int>("SELECT version FROM outbox.schedules"));
        var refused = await Assert.ThrowsAsync<Npgsql.PostgresException>(() => database.ExecuteAsync("UPDATE outbox.schedules SET job_group = repeat('x', 201)"));
        Assert.Equal("schedules_group_is_1_to_200_characters", refused.ConstraintName);
    }

    // By the worker's own role, with the limits of its queue.
    [Fact]
    public async Task A_declared_schedules_jobs_are_limited_by_their_group_and_one_without_looks_as_it_did_before_there_were_groups()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string?> groups = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, context, _) =>
            {
                groups.Enqueue(context.Group);
                return Task.CompletedTask;
            }),
            o => o.Queue("default", 4, new QueueLimits { GroupConcurrency = 1 }).Schedule(Nightly, new NumberJob(1))
                .Schedule(new() { Name = "each-second", Cron = "* * * * * *" }, new NumberJob(2), new() { Group = "tenant 7" }));
        await Eventually.TrueAsync(() => groups.Count >= 2, "it ticks");
        Assert.All(groups, group => Assert.Equal("tenant 7", group));
        Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_groups WHERE job_group = 'tenant 7'"));

        // Or every operator's change would be undone by the first deployment of this version.
        Assert.Equal("abb8112d5d2c6964c2ede51973730771836ce385a67ed31a02951280766873bf", await database.ScalarAsync<string>("SELECT declared FROM outbox.schedules WHERE name = 'nightly'"));
    }

    [Fact]
    public async Task In_the_applications_own_transaction_a_schedule_exists_if_and_only_if_its_data_does()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        foreach (var commits in new[] { false, true })
        {
            await using var transaction = await connection.BeginTransactionAsync(Cancellation);
            await queue.SetScheduleAsync(transaction, Nightly, new NumberJob(1), cancellationToken: Cancellation);
            if (commits)
                await transaction.CommitAsync(Cancellation);
            else
                await transaction.RollbackAsync(Cancellation);
            Assert.Equal(commits ? 1L : 0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedules"));
        }
    }

    [Fact]
    public async Task In_the_transaction_of_a_context_a_schedule_exists_if_and_only_if_its_data_does()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        JobQueue queue = new(database.DataSource);
        foreach (var commits in new[] { false, true })
        {
            await using var db = ServerContext.Open(database);
            Assert.Contains("has no open transaction", Assert.Throws<OutboxException>(() => db.NpgsqlTransaction()).Message, StringComparison.Ordinal);
            await using var transaction = await db.Database.BeginTransactionAsync(Cancellation);
            db.Add(new Server { Name = "nightly" });
            await db.SaveChangesAsync(Cancellation);
            await queue.SetScheduleAsync(db.NpgsqlTransaction(), Nightly, new NumberJob(1), cancellationToken: Cancellation);
            if (commits)
                await transaction.CommitAsync(Cancellation);
            else
                await transaction.RollbackAsync(Cancellation);
            var expected = commits ? "1|1" : "0|0";
            Assert.Equal(expected, await database.ScalarAsync<string>("""SELECT concat_ws('|', (SELECT count(*) FROM outbox.schedules), (SELECT count(*) FROM "Servers"))"""));
        }
    }

    [Fact]
    public async Task Encrypted_arguments_are_encrypted_in_the_schedule_and_for_each_job_anew()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> seen = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o =>
            {
                o.Encryption = new JobEncryption("k1", RandomNumberGenerator.GetBytes(32));
                o.Handle<OtherJob>((job, _, _) =>
                {
                    seen.Enqueue(job.Text);
                    return Task.CompletedTask;
                });
            },
            o => o.Schedule(new() { Name = "s", Cron = "* * * * * *" }, new OtherJob("canary")));
        await Eventually.TrueAsync(() => seen.Count >= 2, "it ticks");
        Assert.All(seen, text => Assert.Equal("canary", text));
        Assert.Contains("cannot be run from here", (await Assert.ThrowsAsync<OutboxException>(() => new JobAdmin(database.Operator).RunScheduleAsync("s", Cancellation))).Message, StringComparison.Ordinal);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT (SELECT count(*) FROM outbox.schedules WHERE schedules::text LIKE '%canary%') + (SELECT count(*) FROM outbox.all_jobs WHERE args::text LIKE '%canary%')"));
    }

    [Fact]
    public async Task What_cannot_be_scheduled_is_refused_before_anything_is_written()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobAdmin admin = new(database.Operator);
        Assert.Contains("Leave Id, RunAt and Delay out", (await Assert.ThrowsAsync<InvalidJobException>(
            () => admin.SetScheduleAsync(Nightly, new NumberJob(1), new() { Delay = TimeSpan.FromSeconds(1) }, Cancellation))).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<OutboxException>(() => admin.SetScheduleAsync(Nightly with { Cron = "x" }, new NumberJob(1), cancellationToken: Cancellation));
        Assert.Throws<OutboxException>(() => new OutboxWorkerOptions().Schedule(Nightly with { Cron = "x" }, new NumberJob(1)));
        Assert.Contains("schedule 'nightly' is declared 2 times", Assert.Throws<OutboxException>(
            new OutboxWorkerOptions().Schedule(Nightly, new NumberJob(1)).Schedule(Nightly, new NumberJob(2)).Check).Message, StringComparison.Ordinal);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedules"));
    }

    // An hourly schedule, twenty minutes late.
    internal static Task DueAsync(ScratchDatabase database) => database.ExecuteAsync("""
        INSERT INTO outbox.schedules (name, kind, args, every) VALUES ('nightly', 'number', '{"number": 1}', interval '1 hour');
        UPDATE outbox.schedules SET changed_at = now() - interval '80 min'
        """);
}
