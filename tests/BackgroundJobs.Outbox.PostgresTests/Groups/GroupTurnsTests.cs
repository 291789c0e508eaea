using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Worker;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// Groups take turns.
public sealed class GroupTurnsTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Ten_jobs_of_one_group_do_not_wait_for_the_thousands_of_another()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> ran = [];
        await using var worker = await StartAsync(database, 4, ran);
        await worker.Queue.EnqueueAsync(Enumerable.Range(0, 20_000).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "large" })), Cancellation);
        await Eventually.TrueAsync(() => ran.Count > 100, "the large group runs");
        var then = ran.Count;
        await worker.Queue.EnqueueAsync(Enumerable.Range(0, 10).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "small" })), Cancellation);
        await Eventually.TrueAsync(() => ran.Count(each => each == "small") == 10, "the small group has run");
        Assert.InRange(ran.ToList().LastIndexOf("small") - then, 0, 6000);
        await QueueLimitsTests.DrainedAsync(database, 60);
        Assert.Equal(20_010, ran.Count);
    }

    [Fact]
    public async Task Turns_are_by_weight()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var admin = new JobAdmin(database.Operator);
        await admin.SetLimitsAsync("default", new(), Cancellation);
        await admin.SetGroupAsync("default", "heavy", weight: 3, cancellationToken: Cancellation);
        await queue.EnqueueAsync(
            Enumerable.Range(0, 900).Select(n => NewJob.Create(new NumberJob(n), new() { Group = n < 300 ? "light" : n < 600 ? "heavy" : "other" })), Cancellation);
        var worker = await Workers.RegisterAsync(database);
        List<ClaimedJob> claimed = [];
        while (claimed.Count < 250)
            claimed.AddRange(await QueueLimitsTests.ClaimAsync(queue, worker));
        Assert.InRange(claimed.Count(each => each.Group == "heavy"), 145, 155);
        Assert.InRange(claimed.Count(each => each.Group == "light"), 45, 55);
    }

    [Fact]
    public async Task What_a_group_has_had_counts_by_the_weight_that_it_has_now()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var admin = new JobAdmin(database.Operator);
        await admin.SetLimitsAsync("default", new(), Cancellation);
        await admin.SetGroupAsync("default", "changed", weight: 0.1, cancellationToken: Cancellation);
        await queue.EnqueueAsync(Enumerable.Range(0, 200).Select(n => NewJob.Create(new NumberJob(n), new() { Group = n % 2 == 0 ? "changed" : "other" })), Cancellation);
        var worker = await Workers.RegisterAsync(database);
        Assert.Equal(["changed", "other"], (await QueueLimitsTests.ClaimAsync(queue, worker, limit: 2)).Select(each => each.Group).Order());
        await admin.SetGroupAsync("default", "changed", weight: 10, cancellationToken: Cancellation);
        var claimed = await QueueLimitsTests.ClaimAsync(queue, worker, limit: 11);
        Assert.InRange(claimed.Count(each => each.Group == "changed"), 9, 10);
    }

    [Fact]
    public async Task Every_due_job_is_found_whichever_way_it_came_and_with_a_group_or_without()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> ran = [];
        await using var worker = await StartAsync(database, 10, ran);
        await worker.Queue.EnqueueAsync(Enumerable.Range(0, 600).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "copied" })), Cancellation);
        await worker.Queue.EnqueueAsync(
            [NewJob.Create(new NumberJob(1), new() { Group = "array", Delay = TimeSpan.FromSeconds(1), Priority = 4 }), NewJob.Create(new NumberJob(1))], Cancellation);
        await using (var db = new PlainContext(database.ConnectionString))
        {
            db.Enqueue(new NumberJob(1), new() { Group = "entity" });
            await db.SaveChangesAsync(Cancellation);
        }

        await database.ExecuteAsync("INSERT INTO outbox.jobs (id, kind, args, job_group) VALUES (gen_random_uuid(), 'number', '{\"number\": 1}', 'by hand')");
        await QueueLimitsTests.DrainedAsync(database);
        Assert.Equal(["1", "array 1", "by hand 1", "copied 600", "entity 1"], ran.GroupBy(each => each).Select(each => $"{each.Key} {each.Count()}".Trim()).Order());
        Assert.Equal(5, await database.ScalarAsync<long>("SELECT count(DISTINCT coalesce(job_group, '')) FROM outbox.job_history"));
    }

    [Fault("J21", "a claim finds the group locked by another one, and nobody tells it of the end of that", "the worker looks again soon")]
    [Fact]
    public async Task A_group_that_another_claim_has_locked_is_looked_at_again_soon()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> ran = [];
        var claims = 0;
        await using var worker = await WorkerHost.StartAsync(
            database,
            o =>
            {
                o.FaultPoint = point =>
                {
                    if (point == "claim answered")
                        Interlocked.Increment(ref claims);
                    return Task.CompletedTask;
                };
                o.Handle<NumberJob>((_, context, _) =>
                {
                    ran.Enqueue(context.Group!);
                    return Task.CompletedTask;
                });
            },
            w =>
            {
                w.Queue("default", 1, new QueueLimits());
                w.PollInterval = TimeSpan.FromHours(1);
                w.Listen = false;
            });
        await worker.EnqueueAsync(new NumberJob(1), new() { Group = "a" });
        await Eventually.TrueAsync(() => ran.Count == 1, "the group is known");

        // Nothing is on its way that would make it look.
        for (var seen = -1; seen != Volatile.Read(ref claims);)
        {
            seen = Volatile.Read(ref claims);
            await Task.Delay(TimeSpan.FromSeconds(0.5), TimeProvider.System, Cancellation);
        }

        // In line, and behind the worker's own look for what is new.
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, job_group, run_at) VALUES (gen_random_uuid(), 'number', '{"number": 2}', 'a', now() - interval '1 hour');
            UPDATE outbox.job_groups SET state = 'ready', after_run_at = DEFAULT, after_id = DEFAULT
            """);
        await using (var other = await database.Operator.OpenConnectionAsync(Cancellation))
        await using (var transaction = await other.BeginTransactionAsync(Cancellation))
        {
            await using (var take = new NpgsqlCommand("SELECT FROM outbox.job_groups FOR NO KEY UPDATE", other, transaction))
                await take.ExecuteNonQueryAsync(Cancellation);
            var before = Volatile.Read(ref claims);
            await worker.Queue.WakeAsync("default", TimeProvider.System.GetUtcNow().AddSeconds(-1), Cancellation);
            await Eventually.TrueAsync(() => Volatile.Read(ref claims) > before, "the worker has looked");
            Assert.Single(ran);
            await transaction.RollbackAsync(Cancellation);
        }

        await Eventually.TrueAsync(() => ran.Count == 2, "the job has run");
    }

    [Fact]
    public async Task A_group_that_has_nothing_for_this_worker_does_not_keep_it_from_the_next()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new(), Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(Enumerable.Range(1, 40).Select(n => NewJob.Create(new NumberJob(n), new() { Group = $"{n}" })), Cancellation);
        await database.ExecuteAsync("UPDATE outbox.jobs SET kind = 'unknown_here' WHERE job_group <> '40'");
        Assert.Equal("40", Assert.Single(await QueueLimitsTests.ClaimAsync(queue, await Workers.RegisterAsync(database), limit: 1)).Group);
    }

    // It leaves the line each time, and comes back: before a light one whose turn is later.
    [Fact]
    public async Task A_heavy_group_that_is_full_each_time_keeps_its_turns_beside_a_light_one()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var admin = new JobAdmin(database.Operator);
        await admin.SetLimitsAsync("default", new(), Cancellation);
        await admin.SetGroupAsync("default", "heavy", weight: 10, concurrency: 1, cancellationToken: Cancellation);
        await admin.SetGroupAsync("default", "light", weight: 1, cancellationToken: Cancellation);
        await queue.EnqueueAsync(Enumerable.Range(0, 200).Select(n => NewJob.Create(new NumberJob(n), new() { Group = n % 2 == 0 ? "heavy" : "light" })), Cancellation);
        var worker = await Workers.RegisterAsync(database);
        List<string> started = [];
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        while (started.Count < 66)
        {
            var job = Assert.Single(await QueueLimitsTests.ClaimAsync(queue, worker, limit: 1));
            started.Add(job.Group!);
            Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(job, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false));
            await queue.FreeGroupsAsync(connection, [("default", job.Group)]);
        }

        Assert.InRange(started.Count(each => each == "light"), 5, 7);
    }

    // More than one claim looks at.
    [Fact]
    public async Task Groups_that_have_nothing_for_this_worker_go_behind_the_others()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new(), Cancellation);
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, job_group)
            SELECT gen_random_uuid(), CASE WHEN n = 2000 THEN 'number' ELSE 'unknown_here' END, '{"number": 1}', to_char(n, '0000')
            FROM generate_series(1, 2000) AS n
            """);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        List<ClaimedJob> claimed = [];
        for (var claims = 0; claims < 4; claims++)
            claimed.AddRange(await QueueLimitsTests.ClaimAsync(queue, worker, limit: 1));
        Assert.Equal(" 2000", Assert.Single(claimed).Group);
    }

    // It would have every turn until it had caught up with what the others have started meanwhile.
    [Theory]
    [InlineData("resumed")]
    [InlineData("of another limit")]
    [InlineData("known before its jobs")]
    public async Task A_group_that_an_operator_brings_into_line_has_no_credit_for_the_time_before(string how)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var admin = new JobAdmin(database.Operator);
        await admin.SetLimitsAsync("default", new(), Cancellation);
        if (how == "resumed")
            await admin.PauseGroupAsync("default", "late", cancellationToken: Cancellation);
        if (how == "of another limit")
            await admin.SetGroupAsync("default", "late", concurrency: 1, cancellationToken: Cancellation);
        foreach (var group in how == "known before its jobs" ? new[] { "other" } : ["other", "late"])
            await EnqueueAsync(group);
        var worker = await Workers.RegisterAsync(database);
        await ClaimAsync(30);
        if (how == "resumed")
            Assert.True(await admin.ResumeGroupAsync("default", "late", Cancellation));
        else
            await admin.SetGroupAsync("default", "late", concurrency: 50, cancellationToken: Cancellation);
        if (how == "known before its jobs")
            await EnqueueAsync("late");
        Assert.InRange((await ClaimAsync(10)).Count(each => each.Group == "late"), 4, 6);

        Task EnqueueAsync(string group) => queue.EnqueueAsync(Enumerable.Range(0, 50).Select(n => NewJob.Create(new NumberJob(n), new() { Group = group })), Cancellation);

        async Task<List<ClaimedJob>> ClaimAsync(int count)
        {
            List<ClaimedJob> claimed = [];
            while (claimed.Count < count)
                claimed.Add(Assert.Single(await QueueLimitsTests.ClaimAsync(queue, worker, limit: 1)));
            return claimed;
        }
    }

    [Fact]
    public async Task A_strict_group_whose_first_job_waits_for_long_goes_on_when_that_is_made_due_by_hand()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(
                (_, context, _) => context.Failures == 0 ? throw new InvalidOperationException("Not today.") : Task.CompletedTask,
                kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromHours(1))),
            w => w.Queue("default", 1, new QueueLimits { GroupOrder = GroupOrder.Strict }));
        await worker.EnqueueAsync(new NumberJob(1), new() { Group = "a" });
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>("SELECT coalesce((SELECT state = 'later' AND look_at > now() + interval '50 minutes' FROM outbox.job_groups), false)"),
            "it waits for its first job");
        await database.ExecuteAsync("UPDATE outbox.jobs SET run_at = now(); UPDATE outbox.queues SET groups_looked_at = groups_looked_at - interval '30 s'");
        await QueueLimitsTests.DrainedAsync(database);
    }

    [Fact]
    public async Task A_job_that_comes_does_not_wait_until_all_are_looked_through_that_were_there_at_the_start()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new(), Cancellation);
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, run_at, job_group)
            SELECT outbox.new_job_id(), 'number', '{"number": 1}', now() - interval '1 hour' + n * interval '1 microsecond', 'large'
            FROM generate_series(1, 300000) AS n
            """);
        var claims = 0;
        var enqueuedAt = 0;
        TaskCompletionSource<int> small = new();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o =>
            {
                o.FaultPoint = async point =>
                {
                    // After the second claim in turn; the first one was of a time when the worker did not know yet that there are turns.
                    if (point == "claim answered" && Interlocked.Increment(ref claims) == 3)
                    {
                        enqueuedAt = 3;
                        await new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new NumberJob(2), new() { Group = "small" })], Cancellation);
                    }
                };
                o.Handle<NumberJob>((_, context, _) =>
                {
                    if (context.Group == "small")
                        small.TrySetResult(Volatile.Read(ref claims));
                    return Task.CompletedTask;
                });
            },
            w => w.Queue("default", 4));

        // Thirty claims look through what was there: ten thousand jobs each.
        Assert.InRange(await small.Task.WaitAsync(TimeSpan.FromSeconds(60), TimeProvider.System, Cancellation) - enqueuedAt, 1, 8);
    }

    [Fact]
    public async Task A_line_of_groups_without_a_job_for_this_worker_is_looked_through_once_with_one_pause()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new(), Cancellation);
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, job_group)
            SELECT outbox.new_job_id(), 'of-another-worker', '{}', 'group ' || n
            FROM generate_series(1, 2500) AS n
            """);
        var queue = new JobQueue(database.DataSource);
        var id = await Workers.RegisterAsync(database);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        var known = NewQueue();
        List<bool> pauses = [];
        List<double> looked = [];
        while (pauses.Count < 6)
        {
            known.MayHaveMore = false;
            known.Take((await queue.ClaimAsync(connection, [known.Request(10, id, ["number"])], prepare: false))[0], TimeSpan.Zero);
            pauses.Add(known.LookAgainAt != long.MaxValue);
            Assert.True(known.MayHaveMore || pauses[^1]);
            looked.Add(await database.ScalarAsync<double>("SELECT coalesce(sum(turn), 0) FROM outbox.job_groups"));
        }

        // The first is plain, and finds that there are turns. Then nine hundred and a few at a time. The sums are of how often each was looked at, and went back by a turn.
        Assert.Equal([false, true, false, true, true, true], pauses);
        Assert.Equal(0, looked[0]);
        Assert.InRange(looked[1], 900, 1000);
        Assert.InRange(looked[2], 1800, 2000);
        Assert.InRange(looked[3], 2500, 3000);
    }

    [Theory]
    [InlineData("number", "-P---P---P")]
    [InlineData("of-another-worker", "-P-P-P-P-P")]
    public async Task What_was_there_is_looked_through_with_a_fourth_of_the_claims_while_there_are_jobs_and_with_half_of_them_where_there_are_none(string kind, string parts)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new(), Cancellation);
        await database.ExecuteAsync($$"""
            INSERT INTO outbox.jobs (id, kind, args, job_group)
            SELECT outbox.new_job_id(), '{{kind}}', '{}', 'group ' || n % 20
            FROM generate_series(1, 60000) AS n
            """);
        var queue = new JobQueue(database.DataSource);
        var id = await Workers.RegisterAsync(database);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        var known = NewQueue();
        var claims = "";
        while (claims.Length < parts.Length)
        {
            var answer = (await queue.ClaimAsync(connection, [known.Request(10, id, ["number"])], prepare: false))[0];
            known.Take(answer, TimeSpan.Zero);
            claims += answer.Request is { InTurn: true, Full: true } ? 'P' : '-';
        }

        Assert.Equal(parts, claims);
    }

    private static WorkerQueue NewQueue() =>
        new("default", new WorkerSlots(new DeclaredSlots(10, ["default"]), TimeSpan.FromMinutes(1), TimeProvider.System), TimeSpan.FromMinutes(1), TimeProvider.System) { Limited = true };

    private static Task<WorkerHost> StartAsync(ScratchDatabase database, int concurrency, ConcurrentQueue<string> ran) => WorkerHost.StartAsync(
        database,
        o => o.Handle<NumberJob>((_, context, _) =>
        {
            ran.Enqueue(context.Group ?? "");
            return Task.CompletedTask;
        }),
        w => w.Queue("default", concurrency, new QueueLimits()));

    private sealed class PlainContext(string connectionString) : DbContext
    {
        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseNpgsql(connectionString).UseOutbox();
    }
}
