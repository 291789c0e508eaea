using System.Collections.Concurrent;
using System.Globalization;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// Limits hold on all workers together, whatever ends the jobs that hold them.
public sealed class QueueLimitsTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Of_a_queue_no_more_jobs_run_at_a_time_than_its_limit_says_on_all_workers_together()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Gauge gauge = new();
        QueueLimits limits = new() { Concurrency = 3 };
        await using var one = await StartAsync(database, gauge, limits);
        await using var other = await StartAsync(database, gauge, limits);
        await one.Queue.EnqueueAsync(Enumerable.Range(1, 90).Select(n => NewJob.Create(new NumberJob(n))), Cancellation);
        await DrainedAsync(database);

        Assert.Equal(3, gauge.Most);
        Assert.Equal(90, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed' AND attempt = 1"));
    }

    [Fault("J20", "sessions are REPEATABLE READ by default", "limits hold, and no claim fails")]
    [Fact]
    public async Task Limits_hold_and_no_claim_fails_where_sessions_are_repeatable_read_by_default()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync($"ALTER ROLE {TestRoles.Application} IN DATABASE \"{database.Name}\" SET default_transaction_isolation = 'repeatable read'");
        database.DataSource.Clear();
        Gauge gauge = new();
        QueueLimits limits = new() { Concurrency = 3, GroupConcurrency = 2 };
        await using var one = await StartAsync(database, gauge, limits);
        await using var other = await StartAsync(database, gauge, limits);
        await one.Queue.EnqueueAsync(Enumerable.Range(1, 200).Select(n => NewJob.Create(new NumberJob(n), new() { Group = $"g{n % 2}" })), Cancellation);
        await DrainedAsync(database);

        Assert.Equal(3, gauge.Most);
        Assert.DoesNotContain("40001", one.Log.Text + other.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Of_a_group_no_more_jobs_run_at_a_time_than_its_limit_says_and_one_may_have_a_limit_of_its_own()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentDictionary<string, Gauge> gauges = [];
        QueueLimits limits = new() { GroupConcurrency = 2 };
        await using var one = await StartAsync(database, context => gauges.GetOrAdd(context.Group ?? "none", _ => new()), limits);
        await using var other = await StartAsync(database, context => gauges.GetOrAdd(context.Group ?? "none", _ => new()), limits);
        await new JobAdmin(database.Operator).SetGroupAsync("default", "g4", concurrency: 4, cancellationToken: Cancellation);
        await one.Queue.EnqueueAsync(
            Enumerable.Range(0, 240).Select(n => NewJob.Create(new NumberJob(n), new() { Group = n % 6 == 5 ? null : $"g{n % 6}", Priority = 1 + (n % 4) })), Cancellation);
        await DrainedAsync(database);

        Assert.Equal(["g0 2", "g1 2", "g2 2", "g3 2", "g4 4", "none 2"], gauges.Select(each => $"{each.Key} {each.Value.Most}").Order());
    }

    [Fact]
    public async Task In_any_stretch_of_a_period_no_more_jobs_start_than_the_rate_says()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentDictionary<Guid, DateTimeOffset> starts = [];
        QueueLimits limits = new() { Rate = new(20, TimeSpan.FromSeconds(1)), GroupRate = new(8, TimeSpan.FromSeconds(1)) };
        await using var one = await StartAsync(database, Note, limits);
        await using var other = await StartAsync(database, Note, limits);
        await one.Queue.EnqueueAsync(Enumerable.Range(0, 60).Select(n => NewJob.Create(new NumberJob(n), new() { Group = n % 6 < 4 ? "large" : $"small{n % 6}" })), Cancellation);
        await DrainedAsync(database);

        // In ms since the first job was enqueued.
        var jobs = (await database.TextsAsync("SELECT concat_ws(' ', id, job_group, extract(epoch FROM claimed_at) * 1000, extract(epoch FROM min(created_at) OVER ()) * 1000) FROM outbox.job_history"))
            .ConvertAll(each => each.Split(' '))
            .ConvertAll(each => (Group: each[1], Claim: Since(each, double.Parse(each[2], CultureInfo.InvariantCulture)), Start: Since(each, (starts[Guid.Parse(each[0])] - DateTimeOffset.UnixEpoch).TotalMilliseconds)));
        var large = jobs.Where(each => each.Group == "large").ToList();
        Assert.InRange(Densest(jobs.Select(each => each.Claim), 1000), 15, 20);
        Assert.InRange(Densest(large.Select(each => each.Claim), 1000), 6, 8);

        // A rate takes starts for 20 ms later than their claims, at least (note_starts): the handlers may begin so much later, less 5 ms for the claim itself.
        // Where one began later still, which is the machine's doing, what follows is for a stretch that is as much shorter.
        var latest = jobs.Max(each => each.Start - each.Claim);
        TestContext.Current.SendDiagnosticMessage($"A handler began {latest:N1} ms after its claim at the latest.");
        var stretch = Math.Min(1000, 1015 - latest);
        Assert.InRange(Densest(jobs.Select(each => each.Start), 1000), 15, int.MaxValue);
        Assert.InRange(Densest(large.Select(each => each.Start), 1000), 6, int.MaxValue);
        Assert.InRange(Densest(jobs.Select(each => each.Start), stretch), 0, 20);
        Assert.InRange(Densest(large.Select(each => each.Start), stretch), 0, 8);

        // 40 of the large group, 8 in a second: not much slower either.
        Assert.InRange(jobs.Max(each => each.Start), 4000, 8000);

        Gauge Note(JobContext context)
        {
            starts[context.JobId] = TimeProvider.System.GetUtcNow();
            return new();
        }

        static double Since(string[] job, double moment) => moment - double.Parse(job[3], CultureInfo.InvariantCulture);

        static int Densest(IEnumerable<double> moments, double stretch)
        {
            List<double> sorted = [.. moments.Order()];
            return sorted.Max(from => sorted.Count(at => at >= from && at < from + stretch));
        }
    }

    [Fault("J19", "a worker dies with places of its queue and its groups held", "they are held until it is rescued, and no longer")]
    [Fact]
    public async Task The_jobs_of_a_dead_worker_hold_their_limits_until_they_are_rescued_and_no_longer()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { Concurrency = 2, GroupConcurrency = 1 }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(Enumerable.Range(1, 6).Select(n => NewJob.Create(new NumberJob(n), new() { Group = $"g{n % 3}" })), Cancellation);
        var dead = await Workers.RegisterAsync(database, TimeSpan.FromSeconds(1));
        Assert.Equal(2, (await ClaimAsync(queue, dead)).Count);
        Assert.Empty(await ClaimAsync(queue, dead));
        await database.ExecuteAsync("UPDATE outbox.workers SET heartbeat_at = clock_timestamp() - interval '1 minute'");

        var alive = await Workers.RegisterAsync(database);
        Assert.Empty(await ClaimAsync(queue, alive));
        await queue.RescueAsync(5, Cancellation);
        Assert.Equal(2, (await ClaimAsync(queue, alive)).Count);
        Assert.Empty(await ClaimAsync(queue, alive));
    }

    [Fact]
    public async Task The_place_of_a_job_that_ends_with_its_worker_is_free_with_the_rescue()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { GroupConcurrency = 1 }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(Enumerable.Range(1, 2).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "a" })), Cancellation);
        var first = Assert.Single(await ClaimAsync(queue, await Workers.RegisterAsync(database, TimeSpan.FromSeconds(1))));
        await new JobAdmin(database.Operator).CancelAsync(first.Id, cancellationToken: Cancellation);
        await database.ExecuteAsync("UPDATE outbox.workers SET heartbeat_at = clock_timestamp() - interval '1 minute'");

        var alive = await Workers.RegisterAsync(database);
        Assert.Empty(await ClaimAsync(queue, alive));
        await queue.RescueAsync(5, Cancellation);
        Assert.Single(await ClaimAsync(queue, alive));
    }

    // Or two workers that declare the same two queues could each have the row that the other waits for.
    [Fact]
    public async Task A_claim_from_several_queues_locks_their_rows_in_one_order()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        foreach (var name in new[] { "a", "b" })
            await admin.SetLimitsAsync(name, new() { Concurrency = 1 }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await using var other = await database.Admin.OpenConnectionAsync(Cancellation);
        await using var transaction = await other.BeginTransactionAsync(Cancellation);
        await using var lockFirst = new NpgsqlCommand("SELECT FROM outbox.queues WHERE name = 'a' FOR UPDATE", other);
        await lockFirst.ExecuteNonQueryAsync(Cancellation);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        var claim = queue.ClaimAsync(connection, [.. new[] { "b", "a" }.Select(name => ClaimRequest.Everything(name, 1, worker, ["number"]) with { InTurn = true })], prepare: false);
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"), "the claim waits");
        var isLocked = await Record.ExceptionAsync(() => database.ExecuteAsync("SELECT FROM outbox.queues WHERE name = 'b' FOR UPDATE NOWAIT"));
        await transaction.CommitAsync(Cancellation);
        var answers = await claim;
        Assert.Null(isLocked);
        Assert.Equal(["a", "b"], answers.Select(each => each.Request.Queue));
    }

    [Fact]
    public async Task A_group_is_not_forgotten_with_what_a_claim_has_started_in_it_meanwhile()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { GroupConcurrency = 1 }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), new() { Group = "a" })], Cancellation);
        await database.ExecuteAsync("INSERT INTO outbox.job_groups (queue, job_group, state) VALUES ('default', 'a', 'idle'), ('default', 'b', 'idle')");

        // It looks while the claim has not committed, finds an idle group, and waits for it.
        await using var connection = await database.Admin.OpenConnectionAsync(Cancellation);
        await using var claim = await connection.BeginTransactionAsync(Cancellation);
        await using var command = new NpgsqlCommand(
            $"UPDATE outbox.job_groups SET state = 'ready' WHERE job_group = 'a'; SELECT count(*) FROM outbox.claim_in_turn('default', 10, false, ARRAY['number'], '{worker}', 0, '{worker}')", connection, claim);
        Assert.Equal(1L, await command.ExecuteScalarAsync(Cancellation));
        var forgetting = queue.ForgetGroupsAsync(Cancellation);
        await Eventually.TrueAsync(
            () => database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"), "it waits for the claim");
        await claim.CommitAsync(Cancellation);
        await forgetting;

        await queue.EnqueueAsync([NewJob.Create(new NumberJob(2), new() { Group = "a" })], Cancellation);
        Assert.Empty(await ClaimAsync(queue, worker));
    }

    [Fact]
    public async Task A_group_is_not_forgotten_while_a_job_of_it_runs()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { GroupConcurrency = 1 }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), new() { Group = "a" })], Cancellation);
        var job = Assert.Single(await ClaimAsync(queue, worker));
        Assert.Equal("idle", await database.ScalarAsync<string>("SELECT state FROM outbox.job_groups"));
        await database.ExecuteAsync("INSERT INTO outbox.job_groups (queue, job_group, state) VALUES ('default', 'b', 'idle')");
        await queue.ForgetGroupsAsync(Cancellation);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(2), new() { Group = "a" })], Cancellation);
        Assert.Empty(await ClaimAsync(queue, worker));

        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        await queue.FinishAsync(connection, [new FinishedJob(job, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false);
        await queue.FreeGroupsAsync(connection, [("default", "a")]);
        job = Assert.Single(await ClaimAsync(queue, worker));
        await queue.FinishAsync(connection, [new FinishedJob(job, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false);
        await queue.ForgetGroupsAsync(Cancellation);

        // The last one stays.
        Assert.Equal(["b"], await database.TextsAsync("SELECT job_group FROM outbox.job_groups"));
    }

    [Fact]
    public async Task A_job_that_was_given_back_and_is_claimed_again_counts_once()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { GroupConcurrency = 2 }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await queue.EnqueueAsync(Enumerable.Range(1, 3).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "a", Priority = n })), Cancellation);
        var job = Assert.Single(await ClaimAsync(queue, worker, limit: 1));
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        Assert.Single(await queue.RescheduleAsync(connection, [new RescheduledJob(job, TimeSpan.Zero, true, null, null)]));
        await queue.FreeGroupsAsync(connection, [("default", "a")]);

        Assert.Equal(job.Id, Assert.Single(await ClaimAsync(queue, worker, limit: 1)).Id);
        Assert.Single(await ClaimAsync(queue, worker));
        Assert.Empty(await ClaimAsync(queue, worker));
    }

    [Fact]
    public async Task A_push_back_does_not_end_a_pause_that_lasts_longer()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        await admin.SetLimitsAsync("default", new(), Cancellation);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await queue.EnqueueAsync(Enumerable.Range(1, 2).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "a" })), Cancellation);
        var job = Assert.Single(await ClaimAsync(queue, worker, limit: 1));
        await admin.PauseGroupAsync("default", "a", cancellationToken: Cancellation);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        await queue.PushBackAsync(connection, [new RescheduledJob(job, TimeSpan.FromMicroseconds(1), false, null, null, true)]);
        Assert.Empty(await ClaimAsync(queue, worker));
        Assert.True(await admin.ResumeGroupAsync("default", "a", Cancellation));
        Assert.Single(await ClaimAsync(queue, worker));
    }

    [Fact]
    public async Task A_worker_that_was_declared_dead_or_gave_a_claim_up_claims_nothing_in_turn()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new(), Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], Cancellation);
        var worker = await Workers.RegisterAsync(database);
        await database.ExecuteAsync("UPDATE outbox.workers SET claim_epoch = 1");
        Assert.Empty(await ClaimAsync(queue, worker));
        await database.ExecuteAsync("UPDATE outbox.workers SET claim_epoch = 0, dead_at = now()");
        Assert.Empty(await ClaimAsync(queue, worker));
        await database.ExecuteAsync("UPDATE outbox.workers SET dead_at = NULL");
        Assert.Single(await ClaimAsync(queue, worker));
    }

    [Fact]
    public async Task A_queue_with_limits_is_claimed_in_turn_alone_and_one_without_as_ever()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), new() { Group = "a" })], Cancellation);
        var worker = await Workers.RegisterAsync(database);
        Assert.Empty(await ClaimAsync(queue, worker));
        await admin.SetLimitsAsync("default", new(), Cancellation);
        Assert.Empty(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));
        await admin.PauseQueueAsync("default", cancellationToken: Cancellation);
        Assert.Empty(await ClaimAsync(queue, worker));
        await admin.ResumeQueueAsync("default", Cancellation);
        var job = Assert.Single(await ClaimAsync(queue, worker));
        Assert.Equal(("a", true, 1), (job.Group, job.InTurn, job.Attempt));
        await admin.SetLimitsAsync("default", null, Cancellation);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(2))], Cancellation);
        Assert.Empty(await ClaimAsync(queue, worker));
        Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));
    }

    [Fact]
    public async Task Limits_are_changed_while_workers_run_and_a_declaration_does_not_undo_that()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Gauge gauge = new();
        var admin = new JobAdmin(database.Operator);
        QueueLimits declared = new() { Concurrency = 1 };
        var release = new TaskCompletionSource();
        await using (var worker = await StartAsync(database, gauge, declared, () => release.Task))
        {
            await worker.Queue.EnqueueAsync(Enumerable.Range(1, 8).Select(n => NewJob.Create(new NumberJob(n))), Cancellation);
            await Eventually.TrueAsync(() => gauge.Most == 1, "one runs");
            await admin.SetLimitsAsync("default", new() { Concurrency = 5 }, Cancellation);
            await Eventually.TrueAsync(() => gauge.Most == 5, "five run");
            await admin.SetLimitsAsync("default", null, Cancellation);
            await Eventually.TrueAsync(() => gauge.Most == 8, "all run");
            release.SetResult();
            await DrainedAsync(database);
        }

        await using (await StartAsync(database, gauge, declared))
            Assert.False(await database.ScalarAsync<bool>("SELECT limited FROM outbox.queues"));
        await using (await StartAsync(database, gauge, declared with { Concurrency = 2 }))
            Assert.Equal(2, await database.ScalarAsync<int>("SELECT concurrency FROM outbox.queues"));
        Assert.Equal(["limit", "limit"], await database.TextsAsync("SELECT verb FROM outbox.operations"));
    }

    [Fact]
    public async Task A_handler_that_is_pushed_back_pauses_its_group_for_everybody_and_no_other()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentDictionary<int, TimeSpan> starts = [];
        var began = TimeProvider.System.GetTimestamp();
        Func<NumberJob, JobContext, CancellationToken, Task> handle = (job, context, _) =>
        {
            if (job.Number == 1 && context.Attempt == 1)
            {
                began = TimeProvider.System.GetTimestamp();
                context.PushBack(TimeSpan.FromSeconds(2));
            }
            else
            {
                starts[job.Number] = TimeProvider.System.GetElapsedTime(began);
            }

            return Task.CompletedTask;
        };
        await using var one = await WorkerHost.StartAsync(database, o => o.Handle(handle), w => w.Queue("default", 4, new QueueLimits()).Queue("plain", 4));
        await using var other = await WorkerHost.StartAsync(database, o => o.Handle(handle), w => w.Queue("default", 4).Queue("plain", 4));
        foreach (var queue in new[] { "default", "plain" })
        {
            starts.Clear();
            await one.EnqueueAsync(new NumberJob(1), new() { Queue = queue, Group = "limited" });
            await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NULL AND run_at > now() AND attempt = 1") == 1, "it was pushed back");
            await one.Queue.EnqueueAsync(Enumerable.Range(2, 4).Select(n => NewJob.Create(new NumberJob(n), new() { Queue = queue, Group = n == 5 ? "free" : "limited" })), Cancellation);
            await DrainedAsync(database);
            Assert.Equal([1, 2, 3, 4, 5], starts.Keys.Order());
            Assert.All(starts.Where(each => each.Key < 5), each => Assert.InRange(each.Value.TotalSeconds, 1.99, 6));
            Assert.InRange(starts[5].TotalSeconds, queue == "plain" ? 1.99 : 0, queue == "plain" ? 6 : 1.5);
        }

        Assert.Equal(0, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE failures > 0"));
    }

    [Fact]
    public async Task A_moment_that_has_passed_is_no_reason_to_look_again_and_again()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
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
                o.Handle<NumberJob>((_, _, _) => Task.CompletedTask);
            },
            w => w.Queue("default", 4, new QueueLimits { Rate = new(5, TimeSpan.FromSeconds(1)) }));

        // As many as may have started, and their period is over.
        await worker.Queue.EnqueueAsync(Enumerable.Range(1, 5).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "a" })), Cancellation);
        await DrainedAsync(database);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<bool>("SELECT started_at[1] + rate_period < now() - interval '0.2 s' FROM outbox.queues"), "the period is over");
        Assert.InRange(await ClaimsInASecondAsync(), 0, 20);

        // A group whose moment has come, and nobody may look at it.
        await new JobAdmin(database.Operator).PauseQueueAsync("default", cancellationToken: Cancellation);
        await database.ExecuteAsync("UPDATE outbox.job_groups SET state = 'full', look_at = now() - interval '1 s'");
        await worker.Queue.WakeAsync("default", cancellationToken: Cancellation);
        Assert.InRange(await ClaimsInASecondAsync(), 0, 20);

        async Task<int> ClaimsInASecondAsync()
        {
            var before = Volatile.Read(ref claims);
            await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System, Cancellation);
            return Volatile.Read(ref claims) - before;
        }
    }

    [Fact]
    public async Task A_rate_of_another_period_does_not_wait_for_starts_as_the_old_one_counted_them()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await queue.EnqueueAsync(Enumerable.Range(1, 10).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "a" })), Cancellation);
        RateLimit daily = new(2, TimeSpan.FromDays(1));
        RateLimit often = new(2, TimeSpan.FromSeconds(1));
        await admin.SetLimitsAsync("default", new() { Rate = daily, GroupRate = daily }, Cancellation);
        Assert.Equal(2, (await ClaimAsync(queue, worker)).Count);
        Assert.Empty(await ClaimAsync(queue, worker));
        await admin.SetLimitsAsync("default", new() { Rate = often, GroupRate = daily }, Cancellation);
        await admin.SetLimitsAsync("default", new() { GroupRate = often }, Cancellation);
        await Eventually.TrueAsync(async () => (await ClaimAsync(queue, worker)).Count == 2, "the group goes on", 5);
        await admin.SetLimitsAsync("default", new() { Rate = daily }, Cancellation);
        Assert.Equal(2, (await ClaimAsync(queue, worker)).Count);
        await admin.SetLimitsAsync("default", new() { Rate = often }, Cancellation);
        await Eventually.TrueAsync(async () => (await ClaimAsync(queue, worker)).Count == 2, "the queue goes on", 5);
    }

    [Fact]
    public async Task A_group_that_was_full_has_no_credit_for_that_when_limits_are_set()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await admin.SetLimitsAsync("default", new(), Cancellation);
        await admin.SetGroupAsync("default", "full", concurrency: 1, cancellationToken: Cancellation);
        await queue.EnqueueAsync(Enumerable.Range(1, 100).Select(n => NewJob.Create(new NumberJob(n), new() { Group = n % 2 == 0 ? "full" : "other" })), Cancellation);
        for (var each = 0; each < 30; each++)
            Assert.Single(await ClaimAsync(queue, worker, limit: 1));
        await database.ExecuteAsync("UPDATE outbox.job_groups SET concurrency = NULL");
        await admin.SetLimitsAsync("default", new() { Concurrency = 1000 }, Cancellation);
        List<string?> groups = [];
        for (var each = 0; each < 10; each++)
            groups.Add(Assert.Single(await ClaimAsync(queue, worker, limit: 1)).Group);
        Assert.InRange(groups.Count(each => each == "full"), 4, 6);
    }

    [Fact]
    public async Task Limits_that_cannot_be_used_are_refused_with_every_fault()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        var refused = await Assert.ThrowsAsync<OutboxException>(() => admin.SetLimitsAsync(
            "default",
            new() { Concurrency = 0, GroupConcurrency = 20_000, Rate = new(0, TimeSpan.Zero), GroupRate = new(1, TimeSpan.FromDays(32)), GroupOrder = GroupOrder.Fifo },
            Cancellation));
        Assert.Equal(
            "The limits of queue 'default' cannot be used: Concurrency is 0 (1 to 10,000); GroupConcurrency is 20000 (1 to 10,000); Rate.Jobs is 0 (1 to 1,000,000); "
            + "Rate.Period is 00:00:00 (a second to 31 days); GroupRate.Period is 32.00:00:00 (a second to 31 days); "
            + "GroupConcurrency is 20000 and GroupOrder Fifo (which is one at a time). Correct these.",
            refused.Message);
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => admin.SetGroupAsync("default", "a", double.NaN, cancellationToken: Cancellation));
        foreach (var group in new[] { "", new string('x', 201), "a\0b", "\ud800" })
        {
            Assert.Throws<InvalidJobException>(() => NewJob.Create(new NumberJob(1), new() { Group = group }));
            if (group != "")
                await Assert.ThrowsAsync<InvalidJobException>(() => admin.PauseGroupAsync("default", group, cancellationToken: Cancellation));
        }
    }

    internal static Task<List<ClaimedJob>> ClaimAsync(JobQueue queue, Guid worker, int limit = 10) =>
        queue.ClaimAsync(ClaimRequest.Everything("default", limit, worker, ["number"]) with { InTurn = true });

    internal static Task DrainedAsync(ScratchDatabase database, double seconds = 30) =>
        Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended", seconds);

    private static Task<WorkerHost> StartAsync(ScratchDatabase database, Gauge gauge, QueueLimits limits, Func<Task>? work = null) =>
        StartAsync(database, _ => gauge, limits, work);

    private static Task<WorkerHost> StartAsync(ScratchDatabase database, Func<JobContext, Gauge> gauge, QueueLimits limits, Func<Task>? work = null) => WorkerHost.StartAsync(
        database,
        o => o.Handle<NumberJob>((_, context, token) => gauge(context).RunAsync(work ?? (() => Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, token)))),
        w => w.Queue("default", 10, limits));
}
