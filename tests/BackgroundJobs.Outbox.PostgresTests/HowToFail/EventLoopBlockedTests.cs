using System.Collections.Concurrent;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// A job ran where requests are served, and everything else stood still.
public sealed class EventLoopBlockedTests
{
    [Fact]
    public async Task Naive_a_job_on_the_loop_that_serves_requests_holds_up_the_next_request()
    {
        using var loop = new BlockingCollection<Action>();
        var thread = new Thread(() =>
        {
            foreach (var each in loop.GetConsumingEnumerable())
                each();
        });
        thread.Start();
        using var jobMayEnd = new ManualResetEventSlim();
        var requestServed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        loop.Add(() => jobMayEnd.Wait());
        loop.Add(requestServed.SetResult);

        Assert.False(requestServed.Task.IsCompleted);
        jobMayEnd.Set();
        await requestServed.Task;
        loop.CompleteAdding();
        thread.Join();
    }

    [Fact]
    public async Task Ours_the_request_ends_with_its_commit_while_its_job_still_runs()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        using var jobMayEnd = new SemaphoreSlim(0);
        var jobRuns = new TaskCompletionSource();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<BootServer>(async (_, _, token) =>
        {
            jobRuns.SetResult();
            await jobMayEnd.WaitAsync(token);
        }));
        await using (var db = ServerContext.Open(database))
        {
            db.Enqueue(new BootServer(1));
            await db.SaveChangesAsync(TestContext.Current.CancellationToken);
        }

        await jobRuns.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
        await using (var next = ServerContext.Open(database))
            Assert.Equal(0, await next.Servers.CountAsync(TestContext.Current.CancellationToken));
        jobMayEnd.Release();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 1, "the job ends");
    }

    [Fault("W07", "handlers block every thread of the pool", "the heartbeat has a thread of its own")]
    [Fact]
    public async Task Ours_handlers_that_block_their_threads_do_not_cost_the_worker_its_lease()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        using var gate = new ManualResetEventSlim();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, _) =>
            {
                gate.Wait(CancellationToken.None);
                return Task.CompletedTask;
            }),
            o => (o.Lease, o.HeartbeatInterval) = (TimeSpan.FromSeconds(3), TimeSpan.FromMilliseconds(500)));
        for (var n = 0; n < 10; n++)
            await worker.EnqueueAsync(new NumberJob(n));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<int>("SELECT running FROM outbox.workers") == 10, "ten handlers block ten threads", 60);

        // Two leases long, only the heartbeat's own thread keeps it alive.
        var beats = new HashSet<DateTime>();
        await Eventually.TrueAsync(async () => beats.Add(await database.ScalarAsync<DateTime>("SELECT heartbeat_at FROM outbox.workers")) && beats.Count >= 12 || beats.Count >= 12, "twelve heartbeats");
        gate.Set();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE attempt = 1 AND crashes = 0") == 10, "all end in their first attempt");
        Assert.DoesNotContain("lease could not be kept", worker.Log.Text, StringComparison.Ordinal);
    }
}
