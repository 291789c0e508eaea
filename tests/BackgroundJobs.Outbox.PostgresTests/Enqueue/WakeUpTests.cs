using System.Diagnostics;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.Time.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

public sealed class WakeUpTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_commit_raises_each_queue_with_its_oldest_run_at_and_a_rollback_raises_nothing(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        List<JobHint> hints = [];
        JobSignal.For(db.Database.GetDbConnection(), "outbox").Raised += hints.Add;
        var early = new DateTimeOffset(2020, 1, 1, 0, 0, 0, TimeSpan.Zero);
        await using (var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            db.Enqueue(new Told("a"), new() { Queue = "q", RunAt = early });
            await db.SaveAsync(sync);
            await transaction.RollbackAsync(TestContext.Current.CancellationToken);
        }

        Assert.Empty(hints);
        await using (var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            db.Enqueue(new Told("b"), new() { Queue = "q", RunAt = early.AddDays(1) });
            db.Enqueue(new Told("c"), new() { Queue = "q", RunAt = early });
            await db.SaveAsync(sync);
            Assert.Empty(hints);
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal([new JobHint("q", early.UtcDateTime)], hints);
        hints.Clear();
        db.Enqueue(new Told("d"));
        await db.SaveAsync(sync);
        Assert.Equal([new JobHint("default", await shop.Database.ScalarAsync<DateTime>("select run_at from outbox.jobs where queue = 'default'"))], hints);
    }

    // E29 follows: a transaction that sends no NOTIFY cannot fail at its COMMIT for a full queue.
    [Fault("E30", "a save that wakes workers", "NOTIFY comes after its commit, on another connection: no writer waits for its lock")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E30_NOTIFY_comes_after_the_commit_from_another_connection_than_that_of_the_transaction(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var listening = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var listen = new NpgsqlCommand("listen outbox_jobs", listening))
            await listen.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        List<NpgsqlNotificationEventArgs> heard = [];
        listening.Notification += (_, e) => heard.Add(e);

        // Held open, so that the pool cannot lend the same backend to the wake-up.
        await using var db = shop.Context();
        await db.Database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        var backend = ((NpgsqlConnection)db.Database.GetDbConnection()).ProcessID;
        db.Enqueue(new Told("a"));
        await db.SaveAsync(sync);
        await transaction.CommitAsync(TestContext.Current.CancellationToken);
        Assert.True(await listening.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken));

        var notification = Assert.Single(heard);
        Assert.NotEqual(backend, notification.PID);
        Assert.True(JobHint.TryParse(notification.Payload, out var hint));
        Assert.Equal(new JobHint("default", await shop.Database.ScalarAsync<DateTime>("select run_at from outbox.jobs")), hint);
    }

    [Fact]
    public async Task Many_commits_send_a_burst_and_then_at_most_fifty_notifications_a_second()
    {
        await using var shop = await Shop.OpenAsync();
        await using var listening = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var listen = new NpgsqlCommand("listen outbox_jobs", listening))
            await listen.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        var heard = 0;
        listening.Notification += (_, _) => heard++;

        var watch = Stopwatch.StartNew();
        var commits = 0;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            for (; watch.Elapsed < TimeSpan.FromSeconds(2); Interlocked.Increment(ref commits))
            {
                await using var db = shop.Context();
                db.Enqueue(new Told("a"));
                await db.SaveAsync(sync: false);
            }
        })));

        while (await listening.WaitAsync(TimeSpan.FromSeconds(1), TestContext.Current.CancellationToken))
        {
        }

        // Fifty at once, then one in 20 ms; the last ones may have been gathered when the time was up.
        Assert.True(commits > 400, $"Only {commits} commits in two seconds: too few for their notifications to be held back.");
        Assert.InRange(heard, 50, 50 + (int)(watch.Elapsed.TotalSeconds * 50) + 1);
    }

    // The clock moves by hand, so that a notification which waits would wait for ever.
    [Fact]
    public async Task At_fifty_commits_a_second_each_is_told_at_once()
    {
        await using var shop = await Shop.OpenAsync();
        await using var listening = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var listen = new NpgsqlCommand("listen outbox_jobs", listening))
            await listen.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        FakeTimeProvider time = new();
        var options = new DbContextOptionsBuilder<ShopContext>()
            .UseNpgsql(shop.Database.DataSource)
            .UseOutbox(outbox => outbox.TimeProvider = time)
            .Options;

        for (var n = 0; n < 200; n++)
        {
            await using var db = new ShopContext(options);
            db.Enqueue(new Told("a"));
            await db.SaveChangesAsync(TestContext.Current.CancellationToken);
            Assert.True(await listening.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken), $"Commit {n} was not told.");
            time.Advance(TimeSpan.FromMilliseconds(20));
        }
    }
}
