using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Groups;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Queues;

// Queues that share slots in an order: the first that has a job that is due goes first.
public sealed class QueuesInOrderTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Under_load_each_queue_waits_until_those_before_it_have_none_left()
    {
        await using var shop = await QueueShop.OpenAsync();
        foreach (var queue in new[] { "low", "middle", "high" })
            await shop.EnqueueAsync(queue, 400);
        await shop.StartAsync(w => w.QueuesInOrder(4, "high", "middle", "low"), () => Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System, Cancellation));
        await shop.DrainedAsync();

        // Four start at once, and say so in any order.
        var starts = shop.Starts;
        Assert.Equal(1200, starts.Count);
        Assert.InRange(starts.IndexOf("middle"), 396, 400);
        Assert.InRange(starts.IndexOf("low"), 796, 800);
    }

    [Fact]
    public async Task A_job_of_the_first_queue_starts_next_while_a_thousand_of_the_last_one_wait()
    {
        await using var shop = await QueueShop.OpenAsync();
        shop.Close();

        // With so many slots nothing is claimed ahead at the pace of this test.
        await shop.StartAsync(w => w.QueuesInOrder(200, "high", "low"));
        await shop.EnqueueAsync("low", 1200);
        await shop.StartedAsync(200);
        for (var n = 1; n <= 10; n += 2)
        {
            // Due long since: a worker that hears of a job a moment before its clock says that it is due waits that long.
            await shop.EnqueueAsync("high", 1, runAt: DateTimeOffset.UnixEpoch);
            shop.LetPass();
            await shop.StartedAsync(200 + n);
            shop.LetPass();
            await shop.StartedAsync(200 + n + 1);
        }

        Assert.Equal(["high", "low", "high", "low", "high", "low", "high", "low", "high", "low"], shop.Starts.Skip(200));
    }

    [Fact]
    public async Task It_starts_next_also_where_many_of_the_last_one_were_claimed_ahead()
    {
        await using var shop = await QueueShop.OpenAsync();
        await shop.StartAsync(w => w.QueuesInOrder(4, "high", "middle", "low"));
        await shop.ClaimAheadAsync();
        await shop.SlowDownAsync();
        var before = shop.Starts.Count;
        await shop.EnqueueAsync("middle", 1);
        await shop.HasClaimedAsync("middle", 1);
        await shop.EnqueueAsync("high", 2);
        await shop.HasClaimedAsync("high", 2);
        for (var n = 1; n <= 4; n++)
        {
            shop.LetPass();
            await shop.StartedAsync(before + n);
        }

        Assert.Equal(["high", "high", "middle"], shop.Starts.Skip(before).Take(3));
    }

    [Fact]
    public async Task What_was_claimed_ahead_and_does_not_get_a_slot_is_given_back_for_other_workers()
    {
        await using var shop = await QueueShop.OpenAsync();
        await shop.StartAsync(w => w.QueuesInOrder(4, "high", "low"));
        await shop.ClaimAheadAsync();
        await Eventually.TrueAsync(async () => await shop.ClaimedAsync("low") == 4, "the others are given back", 10);
        Assert.Equal(0L, await shop.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE failures + crashes > 0"));
        shop.Open();
        await shop.DrainedAsync();
        Assert.Equal(4000L, await shop.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'"));
    }

    [Fact]
    public async Task A_queue_at_its_limit_leaves_the_other_slots_to_those_after_it()
    {
        await using var shop = await QueueShop.OpenAsync();
        Gauge high = new();
        Gauge low = new();
        await shop.EnqueueAsync("low", 200);
        await shop.EnqueueAsync("high", 200, group: "a");
        await shop.StartAsync(
            w => w.QueuesInOrder(6, "high", "low").Limits("high", new QueueLimits { Concurrency = 2 }),
            () => Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, Cancellation),
            context => context.Queue == "high" ? high : low);
        await shop.DrainedAsync();

        Assert.Equal(2, high.Most);
        Assert.InRange(low.Most, 4, 6);
        Assert.InRange(shop.Starts.Skip(shop.Starts.LastIndexOf("low")).Count(queue => queue == "high"), 20, 200);
    }

    [Fact]
    public async Task A_queue_with_limits_that_is_looked_through_in_vain_does_not_hold_up_those_after_it()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobAdmin(database.Operator).SetLimitsAsync("high", new QueueLimits { Concurrency = 1 }, Cancellation);
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, queue, run_at)
            SELECT outbox.new_job_id(), 'number', '{"number": 1}', 'high', now() - interval '1 hour' + n * interval '1 ms'
            FROM generate_series(1, 100000) AS n;
            INSERT INTO outbox.jobs (id, kind, args, queue) SELECT outbox.new_job_id(), 'number', '{"number": 2}', 'low'
            """);
        var claims = 0;
        TaskCompletionSource<int> low = new();
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
                o.Handle<NumberJob>((_, context, token) =>
                {
                    if (context.Queue == "low")
                        low.TrySetResult(Volatile.Read(ref claims));
                    return context.Queue == "low" ? Task.CompletedTask : Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);
                });
            },
            w =>
            {
                w.ShutdownTimeout = TimeSpan.Zero;
                w.QueuesInOrder(4, "high", "low");
            });

        // Ten thousand at a time. The workers' first claim is of a time when it does not know yet of the limits.
        Assert.InRange(await low.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, Cancellation), 2, 6);
    }

    [Fact]
    public async Task A_paused_queue_leaves_its_slots_and_takes_them_again()
    {
        await using var shop = await QueueShop.OpenAsync();
        shop.Close();
        JobAdmin admin = new(shop.Database.Operator);
        await admin.PauseQueueAsync("high", cancellationToken: Cancellation);
        await shop.StartAsync(w => w.QueuesInOrder(100, "high", "low"));
        await shop.EnqueueAsync("high", 20);
        await shop.EnqueueAsync("low", 1000);
        await shop.StartedAsync(100);
        shop.LetPass(5);
        await shop.StartedAsync(105);
        Assert.DoesNotContain("high", shop.Starts);

        Assert.True(await admin.ResumeQueueAsync("high", Cancellation));
        for (var n = 106; !shop.Starts.Contains("high"); n++)
        {
            shop.LetPass();
            await shop.StartedAsync(n);
        }

        var before = shop.Starts.IndexOf("high");
        shop.LetPass(9);
        await shop.StartedAsync(before + 10);
        Assert.All(shop.Starts.Skip(before).Take(10), queue => Assert.Equal("high", queue));
    }

    [Fact]
    public async Task A_job_that_is_tried_again_comes_before_the_later_queues()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        List<string> starts = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, context, token) =>
            {
                lock (starts)
                    starts.Add($"{context.Queue} {context.Failures}");
                await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, token);
                if (context is { Queue: "high", Failures: < 2 })
                    throw new InvalidOperationException("Again.");
            }, kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(50))),
            w => w.QueuesInOrder(1, "high", "low"));
        await worker.Queue.EnqueueAsync([.. Enumerable.Range(0, 200).Select(n => NewJob.Create(new NumberJob(n), new() { Queue = "low" }))], Cancellation);
        await worker.EnqueueAsync(new NumberJob(0), new() { Queue = "high" });
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended");
        Assert.InRange(starts.IndexOf("high 2"), 2, 150);
    }

    [Fact]
    public async Task A_worker_says_which_queues_it_has_and_how_they_share_their_slots()
    {
        await using var shop = await QueueShop.OpenAsync();
        await shop.StartAsync(w => w.Queue("own", 3).QueuesInOrder(4, "high", "low").QueuesByWeight(5, ("a", 2), ("b", 1)));
        await Eventually.TrueAsync(async () => await shop.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers") == 1, "it is there");
        var row = Assert.Single(await new JobInspector(shop.Database.Inspector).WorkersAsync(Cancellation));
        Assert.Equal(
            System.Text.Json.Nodes.JsonNode.Parse("""
            {
                "own": 3,
                "high": { "slots": 4, "sharedBy": ["high", "low"], "place": 1 },
                "low": { "slots": 4, "sharedBy": ["high", "low"], "place": 2 },
                "a": { "slots": 5, "sharedBy": ["a", "b"], "weight": 2 },
                "b": { "slots": 5, "sharedBy": ["a", "b"], "weight": 1 }
            }
            """),
            System.Text.Json.Nodes.JsonNode.Parse(row.Queues),
            System.Text.Json.Nodes.JsonNode.DeepEquals);
        Assert.Contains("own (3), high > low (4), a x2, b x1 (5)", shop.Worker!.Log.Text, StringComparison.Ordinal);
    }
}
