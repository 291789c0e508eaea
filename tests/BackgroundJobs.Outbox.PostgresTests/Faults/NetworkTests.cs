using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

public sealed class NetworkTests
{
    [Fault("W08", "six heartbeats take one and a half intervals each", "the next follows at once; the lease holds")]
    [Fact]
    public async Task W08_heartbeats_that_take_long_follow_each_other_at_once_and_the_lease_holds()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var proxy = FaultProxy.Before(database.ConnectionString);
        TaskCompletionSource started = new(), mayEnd = new();
        // Before the worker starts: it looks then, and again in a minute.
        await new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, _, token) =>
            {
                started.SetResult();
                await mayEnd.Task.WaitAsync(token);
            }),
            o =>
            {
                (o.ConnectionString, o.Listen, o.PollInterval) = (proxy.ConnectionString, false, TimeSpan.FromMinutes(1));
                (o.Lease, o.HeartbeatInterval) = (TimeSpan.FromSeconds(8), TimeSpan.FromSeconds(1));
            });
        await started.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, TestContext.Current.CancellationToken);

        // Each takes one and a half intervals.
        var before = proxy.Fired;
        proxy.Arm(CommitFault.DelayAnswer, statements: true, times: 6);
        await Eventually.TrueAsync(() => proxy.Fired == before + 6, "six heartbeats are late", 40);
        mayEnd.SetResult();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE attempt = 1 AND failures = 0") == 1, "it completes in its first attempt", 40);
    }

    [Fault("W12", "a completion is committed and its answer lost", "not run again")]
    [Fact]
    public async Task W12_a_completion_whose_answer_is_lost_is_not_done_again()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var proxy = FaultProxy.Before(database.ConnectionString);
        var runs = 0;
        TaskCompletionSource started = new(), mayEnd = new();
        // Before the worker starts: it looks then, and again in a minute.
        await new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, _, token) =>
            {
                Interlocked.Increment(ref runs);
                started.TrySetResult();
                await mayEnd.Task.WaitAsync(token);
            }),
            o =>
            {
                (o.ConnectionString, o.Listen, o.PollInterval) = (proxy.ConnectionString, false, TimeSpan.FromMinutes(1));
                (o.Lease, o.HeartbeatInterval) = (TimeSpan.FromMinutes(2), TimeSpan.FromSeconds(40));
            });
        await started.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, TestContext.Current.CancellationToken);

        // No other statement of a worker that has nothing else to do is answered so: no job was not ours any more.
        proxy.LoseAnswer("SELECT 0");
        mayEnd.SetResult();
        await Eventually.TrueAsync(() => proxy.HasLost && worker.Log.Text.Contains("Recording 1 ends failed", StringComparison.Ordinal), "the answer is lost");
        await worker.StopAsync();
        Assert.Equal("0|1|1|0", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', (SELECT count(*) FROM outbox.jobs), count(*), max(attempt), max(failures)) FROM outbox.job_history WHERE state = 'completed'"));
        Assert.Equal(1, runs);
    }

    // The server's last word never comes, nor does an error: only somebody who asks finds out.
    [Fault("P22", "the listener's connection is half open", "found out by keepalive; polled meanwhile")]
    [Fact]
    public async Task P22_a_listener_that_nobody_talks_to_any_more_finds_out_and_listens_anew_and_jobs_run_meanwhile()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var proxy = FaultProxy.Before(database.ConnectionString);
        var ran = 0;
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((job, _, _) =>
            {
                Volatile.Write(ref ran, job.Number);
                return Task.CompletedTask;
            }),
            o => (o.DirectConnectionString, o.PollInterval) = (new NpgsqlConnectionStringBuilder(proxy.ConnectionString) { KeepAlive = 1, Timeout = 2, CommandTimeout = 2 }.ConnectionString, TimeSpan.FromSeconds(2)));
        var enqueuer = new JobQueue(database.Enqueuer);
        await Eventually.TrueAsync(async () => await ListenersAsync() == 1, "it listens");

        proxy.OpenHole();
        await enqueuer.EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(() => Volatile.Read(ref ran) == 1, "the poll finds it");
        await Eventually.TrueAsync(() => worker.Log.Text.Contains("Not listening", StringComparison.Ordinal), "it finds out");

        proxy.CloseHole();
        await Eventually.TrueAsync(async () => await ListenersAsync() >= 1 && worker.Log.Text.Contains("Not listening", StringComparison.Ordinal), "it listens anew");
        await enqueuer.EnqueueAsync([NewJob.Create(new NumberJob(2))], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(() => Volatile.Read(ref ran) == 2, "the next one runs");

        Task<long> ListenersAsync() => database.ScalarAsync<long>("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen%'");
    }
}
