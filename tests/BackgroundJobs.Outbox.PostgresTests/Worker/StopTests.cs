using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class StopTests
{
    [Theory]
    [InlineData(Signals.Terminate)]
    [InlineData(Signals.Interrupt)]
    public async Task A_job_at_a_safe_exit_point_goes_back_at_once_and_goes_on_from_there(int signal)
    {
        await using var database = await StartedAsync();
        await using var first = await WorkerProcess.StartAsync(database);
        await EnqueueAsync(database, new SteppingJob(40, 50));
        await Eventually.TrueAsync(async () => await CountAsync(database, "step") >= 3, "some steps are done");

        first.Signal(signal);
        await first.ExitAsync(5);
        Assert.Equal(0, first.ExitCode);
        var (cursor, steps) = (await database.ScalarAsync<string>("SELECT saved_cursor::text FROM outbox.jobs"), await CountAsync(database, "step"));
        Assert.Equal($"{steps}", cursor);
        Assert.Equal("0|0|t", await database.ScalarAsync<string>("SELECT concat_ws('|', failures, crashes, run_at <= now() AND lease_token IS NULL) FROM outbox.jobs"));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers"));

        await using var second = await WorkerProcess.StartAsync(database);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 1, "the job ends");
        Assert.Equal("40|40", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(DISTINCT number)) FROM runs WHERE what = 'step'"));
    }

    [Fact]
    public async Task A_handler_that_ends_within_the_limit_is_let_end()
    {
        await using var database = await StartedAsync();
        await using var worker = await WorkerProcess.StartAsync(database);
        await EnqueueAsync(database, new SlowJob(1, 1500));
        await Eventually.TrueAsync(async () => await CountAsync(database, "start") == 1, "the job runs");
        worker.Signal(Signals.Terminate);
        await worker.ExitAsync(10);
        Assert.Equal("completed|1", await database.ScalarAsync<string>("SELECT concat_ws('|', state, attempt) FROM outbox.job_history"));
    }

    [Fault("W19", "SIGTERM, and a handler does not end in time", "cancelled at the limit; its job goes back")]
    [Fact]
    public async Task A_handler_that_does_not_end_in_time_is_cancelled_and_its_job_goes_back_with_no_failure()
    {
        await using var database = await StartedAsync();
        await using var worker = await WorkerProcess.StartAsync(database, shutdown: 1);
        await EnqueueAsync(database, new SlowJob(1, 60_000));
        await Eventually.TrueAsync(async () => await CountAsync(database, "start") == 1, "the job runs");
        worker.Signal(Signals.Terminate);
        await worker.ExitAsync(10);
        Assert.Equal("0|0|t", await database.ScalarAsync<string>("SELECT concat_ws('|', failures, crashes, lease_token IS NULL) FROM outbox.jobs"));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers"));
    }

    [Fault("W20", "SIGTERM, and a handler that takes four leases to end, beside a worker that rescues", "heartbeats go on until it has ended; nobody else runs it")]
    [Fact]
    public async Task W20_a_worker_that_stops_keeps_its_lease_until_its_last_handler_has_ended()
    {
        await using var database = await StartedAsync();
        await using var worker = await WorkerProcess.StartAsync(database, lease: 1.5);
        await EnqueueAsync(database, new SlowJob(1, 6000));
        await Eventually.TrueAsync(async () => await CountAsync(database, "start") == 1, "the job runs");
        await using var other = await WorkerProcess.StartAsync(database, lease: 1.5);
        worker.Signal(Signals.Terminate);
        await worker.ExitAsync(20);
        Assert.Equal("completed|1|0|0", await database.ScalarAsync<string>("SELECT concat_ws('|', state, attempt, failures, crashes) FROM outbox.job_history"));
        Assert.Equal(1, await CountAsync(database, "start"));
    }

    [Fault("W19", "SIGTERM twice, and a handler is deaf", "its job goes back")]
    [Fact]
    public async Task A_second_signal_stops_hard_and_still_gives_the_jobs_back()
    {
        await using var database = await StartedAsync();
        await using var worker = await WorkerProcess.StartAsync(database, shutdown: 25);
        await EnqueueAsync(database, new SlowJob(1, 60_000));
        await EnqueueAsync(database, new DeafJob(60_000));
        await Eventually.TrueAsync(async () => await CountAsync(database, "start") == 2, "the jobs run");
        worker.Signal(Signals.Interrupt);
        await Eventually.TrueAsync(() => worker.Output.Contains("is stopping", StringComparison.Ordinal), "it stops");
        worker.Signal(Signals.Interrupt);
        await worker.ExitAsync(8);
        Assert.Contains("stops hard", worker.Output, StringComparison.Ordinal);
        Assert.Equal("2|0|0", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', count(*), max(failures), max(crashes)) FROM outbox.jobs WHERE lease_token IS NULL AND run_at <= now()"));
    }

    [Fact]
    public async Task What_was_claimed_and_not_started_goes_back_at_a_stop()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        using var gate = new SemaphoreSlim(0);
        var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (job, _, token) =>
        {
            if (job.Number > 3000)
                await gate.WaitAsync(token);
        }), o => o.ShutdownTimeout = TimeSpan.FromMilliseconds(200));
        await worker.Queue.EnqueueAsync([.. Enumerable.Range(1, 6000).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 3000, "the quick ones are done");

        // Claimed ahead, more than slots; and recorded in batches: a transaction for many, not one for each.
        Assert.InRange(await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL"), 21, 3000);
        Assert.InRange(await database.ScalarAsync<long>("SELECT count(DISTINCT xmin::text) FROM outbox.job_history"), 1, 1000);
        await worker.DisposeAsync();
        Assert.Equal("3000|0|0", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', count(*), max(failures), max(crashes)) FROM outbox.jobs WHERE lease_token IS NULL"));
    }

    private static async Task<ScratchDatabase> StartedAsync()
    {
        var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        return database;
    }

    private static Task EnqueueAsync<TJob>(ScratchDatabase database, TJob job)
        where TJob : IJob => new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(job)], TestContext.Current.CancellationToken);

    private static Task<long> CountAsync(ScratchDatabase database, string what) =>
        database.ScalarAsync<long>($"SELECT count(*) FROM runs WHERE what = '{what}'");
}
