using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// One at a time, in order: what a failure lets pass, and what it does not.
public sealed class GroupOrderTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(GroupOrder.Fifo)]
    [InlineData(GroupOrder.Strict)]
    public async Task The_jobs_of_a_group_run_one_at_a_time_in_their_order(GroupOrder order)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentDictionary<string, Gauge> gauges = [];
        ConcurrentQueue<int> ran = [];
        await using var one = await StartAsync(database, order, RunAsync);
        await using var other = await StartAsync(database, order, RunAsync);
        for (var part = 0; part < 4; part++)
            await one.Queue.EnqueueAsync(Enumerable.Range(part * 100, 100).Select(n => NewJob.Create(new NumberJob(n), new() { Group = $"g{n % 10}" })), Cancellation);
        await QueueLimitsTests.DrainedAsync(database);

        Assert.All(gauges.Values, gauge => Assert.Equal(1, gauge.Most));
        Assert.Equal(400, ran.Count);
        Assert.All(ran.GroupBy(n => n % 10), group => Assert.Equal(group.Order(), group));

        Task RunAsync(NumberJob job, JobContext context) => gauges.GetOrAdd(context.Group!, _ => new()).RunAsync(async () =>
        {
            ran.Enqueue(job.Number);
            await Task.Yield();
        });
    }

    [Fact]
    public async Task A_job_that_waits_for_its_next_attempt_lets_others_pass_but_not_in_strict_order()
    {
        foreach (var order in new[] { GroupOrder.Fifo, GroupOrder.Strict })
        {
            await using var database = await ScratchDatabase.MigratedAsync();
            ConcurrentQueue<int> ran = [];
            await using var worker = await StartAsync(database, order, (job, context) =>
            {
                ran.Enqueue(job.Number);
                return job.Number == 1 && context.Attempt < 3 ? throw new InvalidOperationException("Not yet.") : Task.CompletedTask;
            });
            await worker.Queue.EnqueueAsync(Enumerable.Range(1, 4).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "a" })), Cancellation);
            await QueueLimitsTests.DrainedAsync(database);
            Assert.Equal(order == GroupOrder.Fifo ? [1, 2, 3, 4, 1, 1] : [1, 1, 1, 2, 3, 4], ran);
        }
    }

    // It was in line all the time, and each claim looked at it in vain.
    [Fact]
    public async Task A_strict_group_whose_rate_is_used_up_is_out_of_line_until_its_first_job_may_start_again()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { GroupOrder = GroupOrder.Strict, GroupRate = new(1, TimeSpan.FromHours(1)) }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), new() { Group = "a" }), NewJob.Create(new NumberJob(2), new() { Group = "a" })], Cancellation);
        var worker = await Workers.RegisterAsync(database);
        var first = Assert.Single(await QueueLimitsTests.ClaimAsync(queue, worker));
        await using (var connection = await database.DataSource.OpenConnectionAsync(Cancellation))
        {
            Assert.Single(await queue.RescheduleAsync(connection, [new RescheduledJob(first, TimeSpan.Zero, true, null, null)]));
            await queue.FreeGroupsAsync(connection, [("default", "a")]);
        }

        Assert.Empty(await QueueLimitsTests.ClaimAsync(queue, worker));
        Assert.True(await database.ScalarAsync<bool>("SELECT state = 'later' AND look_at > now() + interval '50 minutes' FROM outbox.job_groups"));
        var blocked = Assert.Single(await new JobInspector(database.Inspector).BlockedGroupsAsync(Cancellation));
        Assert.Equal(("rate", (Guid?)first.Id), (blocked.Why, blocked.BehindJobId));
    }

    [Fact]
    public async Task In_strict_order_the_next_one_follows_at_once_where_the_first_is_cancelled_while_it_waits_for_another_attempt()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var admin = new JobAdmin(database.Operator);
        await admin.SetLimitsAsync("default", new() { GroupOrder = GroupOrder.Strict }, Cancellation);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(Enumerable.Range(1, 2).Select(n => NewJob.Create(new NumberJob(n), new() { Group = "a" })), Cancellation);
        var worker = await Workers.RegisterAsync(database);
        var first = Assert.Single(await QueueLimitsTests.ClaimAsync(queue, worker));
        await database.ExecuteAsync($"UPDATE outbox.jobs SET cancel_requested_at = now() WHERE id = '{first.Id}'");
        await using (var connection = await database.DataSource.OpenConnectionAsync(Cancellation))
        {
            await queue.RescheduleAsync(connection, [new RescheduledJob(first, TimeSpan.FromHours(1), true, null, null)]);
            await queue.FreeGroupsAsync(connection, [("default", "a")]);
        }

        Assert.Empty(await QueueLimitsTests.ClaimAsync(queue, worker));
        await queue.FinishCancelledAsync(Cancellation);
        Assert.Single(await QueueLimitsTests.ClaimAsync(queue, worker));
    }

    [Fact]
    public async Task In_strict_order_a_dead_job_holds_its_group_up_until_it_is_retried_or_passed_over()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<int> ran = [];
        var mended = false;
        var admin = new JobAdmin(database.Operator);
        var inspector = new JobInspector(database.Inspector);
        await using var worker = await StartAsync(database, GroupOrder.Strict, (job, context) =>
        {
            ran.Enqueue(job.Number);
            if (job.Number % 10 == 1 && !mended)
                context.Dead("It cannot be done.");
            return Task.CompletedTask;
        });
        List<NewJob> jobs = [.. from n in new[] { 1, 2, 3, 11, 12, 13, 25 } select NewJob.Create(new NumberJob(n), new() { Group = $"g{n / 10}" })];
        await worker.Queue.EnqueueAsync(jobs, Cancellation);

        // A group whose job still runs is blocked too.
        IReadOnlyList<BlockedGroupRow> blocked = [];
        await Eventually.TrueAsync(
            async () => ran.Count == 3 && (blocked = await inspector.BlockedGroupsAsync(Cancellation)).Count == 2 && blocked.All(each => each.BehindJobState == "dead"),
            "two groups wait for a dead job, and nothing runs");
        Assert.Equal([1, 11, 25], ran.Order());
        Assert.Equal(
            [$"default g0 order {jobs[0].Id} dead", $"default g1 order {jobs[3].Id} dead"],
            blocked.Select(each => $"{each.Queue} {each.JobGroup} {each.Why} {each.BehindJobId} {each.BehindJobState}"));
        Assert.Equal(
            $"Its group g0 waits for job {jobs[0].Id}, which is dead: JobAdmin can retry it, or pass it over.", (await inspector.ExplainAsync(jobs[1].Id, Cancellation))!.Why);

        mended = true;
        Assert.Equal(1, await admin.RetryAsync(new JobFilter { Ids = [jobs[0].Id] }, Cancellation));
        await Eventually.TrueAsync(() => ran.Contains(3), "the first group goes on");
        Assert.Equal([1, 1, 2, 3], ran.Where(n => n < 10));
        Assert.DoesNotContain(12, ran);
        Assert.True(await admin.ResumeGroupAsync("default", "g1", Cancellation));
        await Eventually.TrueAsync(() => ran.Contains(13), "the second group goes on");
        Assert.Equal([11, 12, 13], ran.Where(n => n is > 10 and < 20));
        Assert.False(await admin.ResumeGroupAsync("default", "g1", Cancellation));
    }

    [Fact]
    public async Task In_strict_order_a_group_goes_on_when_an_operator_makes_its_first_job_due_or_cancels_it_and_so_do_jobs_without_a_group()
    {
        foreach (var group in new[] { "a", null })
        {
            await using var database = await ScratchDatabase.MigratedAsync();
            ConcurrentQueue<int> ran = [];
            var admin = new JobAdmin(database.Operator);
            await using var worker = await WorkerHost.StartAsync(
                database,
                o => o.Handle<NumberJob>(
                    (job, context, _) =>
                    {
                        ran.Enqueue(job.Number);
                        if (job.Number == 4)
                            context.Dead("It cannot be done.");
                        return job.Number < 3 && context.Attempt == 1 ? throw new InvalidOperationException("Not today.") : Task.CompletedTask;
                    },
                    kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromHours(1))),
                w => w.Queue("default", 10, new QueueLimits { GroupOrder = GroupOrder.Strict }));
            List<NewJob> jobs = [.. Enumerable.Range(1, 5).Select(n => NewJob.Create(new NumberJob(n), new() { Group = group }))];
            await worker.Queue.EnqueueAsync(jobs, Cancellation);
            await Eventually.TrueAsync(() => WaitsAsync(1), "the first one waits for its next attempt");
            Assert.True(await admin.RetryAsync(jobs[0].Id, Cancellation));
            await Eventually.TrueAsync(() => WaitsAsync(2), "the second one does", 15);
            Assert.True(await admin.CancelAsync(jobs[1].Id, cancellationToken: Cancellation));
            await Eventually.TrueAsync(async () => await database.ScalarAsync<string?>("SELECT state FROM outbox.job_groups") == "failed", "the fourth one is dead", 15);
            Assert.Equal([1, 1, 2, 3, 4], ran);
            Assert.True(await admin.ResumeGroupAsync("default", group ?? "", Cancellation));
            await QueueLimitsTests.DrainedAsync(database, 15);

            async Task<bool> WaitsAsync(int number) => ran.Contains(number) && await database.ScalarAsync<string?>("SELECT state FROM outbox.job_groups") == "later";
        }
    }

    [Fact]
    public async Task A_paused_group_starts_nothing_until_it_is_resumed_and_the_others_go_on()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<int> ran = [];
        var admin = new JobAdmin(database.Operator);
        await using var worker = await StartAsync(database, GroupOrder.Any, (job, _) =>
        {
            ran.Enqueue(job.Number);
            return Task.CompletedTask;
        });
        await admin.PauseGroupAsync("default", "a", reason: "The customer has moved.", cancellationToken: Cancellation);
        await admin.PauseGroupAsync("default", "b", until: TimeProvider.System.GetUtcNow().AddSeconds(1.5), cancellationToken: Cancellation);
        List<NewJob> jobs = [.. from n in Enumerable.Range(0, 3) select NewJob.Create(new NumberJob(n), new() { Group = $"{(char)('a' + n)}" })];
        await worker.Queue.EnqueueAsync(jobs, Cancellation);
        await Eventually.TrueAsync(() => ran.Count == 2, "the others have run");
        Assert.Equal([2, 1], ran);
        Assert.Equal("Its group a is paused.", (await new JobInspector(database.Inspector).ExplainAsync(jobs[0].Id, Cancellation))!.Why);
        var blocked = Assert.Single(await new JobInspector(database.Inspector).BlockedGroupsAsync(Cancellation));
        Assert.Equal(("a", "paused", "The customer has moved."), (blocked.JobGroup, blocked.Why, blocked.PauseReason));
        Assert.True(await admin.ResumeGroupAsync("default", "a", Cancellation));
        await QueueLimitsTests.DrainedAsync(database);
        Assert.Equal(["pause group", "pause group", "resume group"], await database.TextsAsync("SELECT verb FROM outbox.operations ORDER BY at"));
    }

    private static Task<WorkerHost> StartAsync(ScratchDatabase database, GroupOrder order, Func<NumberJob, JobContext, Task> handle) => WorkerHost.StartAsync(
        database,
        o => o.Handle<NumberJob>((job, context, _) => handle(job, context), kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(300))),
        w => w.Queue("default", 10, new QueueLimits { GroupOrder = order }));
}
