using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Groups;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Queues;

// Queues that share slots by weight: starts in the proportion of the weights, as long as there is a choice.
public sealed class QueuesByWeightTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    // Fast: hundreds are claimed ahead; so fast that the claims keep up, as without jobs of a queue at hand there is no choice. Slow: each is
    // claimed when a slot is free.
    [Theory]
    [InlineData(1, 4000, 5000)]
    [InlineData(10, 400, 500)]
    public async Task Under_load_starts_are_in_the_proportion_of_the_weights(int milliseconds, int jobs, int counted)
    {
        await using var shop = await QueueShop.OpenAsync();
        foreach (var queue in new[] { "low", "middle", "high" })
            await shop.EnqueueAsync(queue, jobs);
        await shop.StartAsync(w => w.QueuesByWeight(8, ("high", 6), ("middle", 3), ("low", 1)), () => Task.Delay(TimeSpan.FromMilliseconds(milliseconds), TimeProvider.System, Cancellation));
        await shop.DrainedAsync(60);

        var starts = shop.Starts;
        Assert.Equal(3 * jobs, starts.Count);
        foreach (var part in new[] { starts.Take(counted), starts.Take(counted / 2), starts.Skip(counted / 2).Take(counted / 2) })
        {
            var of = part.CountBy(queue => queue).ToDictionary();
            var tenth = of.Values.Sum() / 10;
            Assert.InRange(of["high"], 6 * tenth * 0.95, 6 * tenth * 1.05);
            Assert.InRange(of["middle"], 3 * tenth * 0.92, 3 * tenth * 1.08);
            Assert.InRange(of["low"], tenth * 0.8, tenth * 1.2);
        }
    }

    [Fact]
    public async Task Who_has_the_jobs_has_the_slots_and_who_had_none_has_no_credit()
    {
        await using var shop = await QueueShop.OpenAsync();
        Gauge gauge = new();
        await shop.StartAsync(w => w.QueuesByWeight(4, ("idle", 1), ("busy", 1)), () => Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System, Cancellation), _ => gauge);
        await shop.EnqueueAsync("busy", 600);
        await shop.DrainedAsync();
        Assert.Equal(4, gauge.Most);

        await shop.EnqueueAsync("busy", 600);
        await shop.StartedAsync(700);
        await shop.EnqueueAsync("idle", 400);
        await shop.DrainedAsync();
        var starts = shop.Starts;
        var first = starts.IndexOf("idle");
        Assert.InRange(starts.Skip(first).Take(200).Count(queue => queue == "idle"), 90, 115);
    }

    [Fact]
    public async Task The_smallest_weight_gets_its_turns_too()
    {
        await using var shop = await QueueShop.OpenAsync();
        await shop.EnqueueAsync("large", 5000);
        await shop.EnqueueAsync("small", 10);
        await shop.StartAsync(w => w.QueuesByWeight(4, ("large", 1000), ("small", 1)), async () => await Task.Yield());
        await shop.DrainedAsync();
        var starts = shop.Starts;
        var turns = starts.Index().Where(each => each.Item == "small").Select(each => each.Index).ToList();
        Assert.InRange(turns[0], 0, 100);
        Assert.InRange(turns[1], 900, 1200);
        Assert.InRange(turns[3], 2800, 3400);
    }

    [Fact]
    public async Task A_queue_that_gets_jobs_is_not_behind_all_that_was_claimed_ahead_of_another()
    {
        await using var shop = await QueueShop.OpenAsync();
        await shop.StartAsync(w => w.QueuesByWeight(4, ("other", 1), ("low", 1)));
        await shop.ClaimAheadAsync();
        var before = shop.Starts.Count;
        await shop.EnqueueAsync("other", 10);
        await shop.HasClaimedAsync("other", 1);
        for (var n = 1; n <= 8; n++)
        {
            shop.LetPass();
            await shop.StartedAsync(before + n);
        }

        Assert.InRange(shop.Starts.Skip(before).Take(8).Count(queue => queue == "other"), 3, 5);
    }

    [Fact]
    public async Task Queues_with_limits_take_turns_with_others_and_their_limits_hold()
    {
        await using var shop = await QueueShop.OpenAsync();
        Gauge limited = new();
        Gauge other = new();
        await shop.EnqueueAsync("limited", 100, "a");
        await shop.EnqueueAsync("limited", 100, "b");
        await shop.EnqueueAsync("other", 400);
        await shop.StartAsync(
            w => w.QueuesByWeight(6, ("limited", 100), ("other", 1)).Limits("limited", new QueueLimits { GroupConcurrency = 1, Rate = new(2000, TimeSpan.FromSeconds(1)) }),
            () => Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, Cancellation),
            context => context.Queue == "limited" ? limited : other);
        await shop.DrainedAsync();
        Assert.Equal(2, limited.Most);
        Assert.InRange(other.Most, 4, 6);
        Assert.InRange(shop.Starts.Take(300).Count(queue => queue == "limited"), 25, 150);
    }

    [Fact]
    public async Task A_stop_gives_back_what_waits_and_lets_end_what_runs()
    {
        await using var shop = await QueueShop.OpenAsync();
        await shop.StartAsync(w => w.QueuesByWeight(4, ("high", 3), ("low", 1)));
        await shop.ClaimAheadAsync();
        await shop.EnqueueAsync("high", 100);
        await Eventually.TrueAsync(async () => await shop.ClaimedAsync("high") > 0, "some are claimed", 5);
        var started = shop.Starts.Count;
        var stop = shop.Worker!.StopAsync();
        await Eventually.TrueAsync(async () => await shop.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL") == 4, "only what runs is held");
        shop.LetPass(4);
        await stop;
        Assert.Equal(started, shop.Starts.Count);
        Assert.Equal("0|0|4100", await shop.Database.ScalarAsync<string>("""
            SELECT concat_ws('|',
                (SELECT count(*) FROM outbox.workers),
                (SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL OR failures + crashes > 0),
                (SELECT count(*) FROM outbox.all_jobs))
            """));
        Assert.Equal((long)started, await shop.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'"));
    }

    [Fact]
    public async Task Two_workers_that_share_the_queues_in_other_ways_run_each_job_once()
    {
        await using var shop = await QueueShop.OpenAsync();
        await shop.StartAsync(w => w.QueuesByWeight(5, ("a", 5), ("b", 1)).Queue("c", 2));
        await using var other = await WorkerHost.StartAsync(shop.Database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask), w => w.QueuesInOrder(5, "c", "b", "a"));
        await Task.WhenAll(new[] { "a", "b", "c" }.SelectMany(queue => Enumerable.Range(0, 10).Select(_ => shop.EnqueueAsync(queue, 100))));
        await shop.DrainedAsync();
        Assert.Equal("3000|0", await shop.Database.ScalarAsync<string>("SELECT concat_ws('|', count(*), sum(failures + crashes)) FROM outbox.job_history WHERE state = 'completed'"));
    }
}
