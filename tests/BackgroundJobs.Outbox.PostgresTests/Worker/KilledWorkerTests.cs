using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class KilledWorkerTests
{
    [Fault("W01", "SIGKILL in the middle of handlers", "run again within ten seconds, no failure charged")]
    [Fact]
    public async Task The_jobs_of_a_killed_worker_run_again_within_ten_seconds_and_no_failure_is_charged()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        await using var victim = await WorkerProcess.StartAsync(database);
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new SlowJob(1, 60_000)), NewJob.Create(new SlowJob(2, 60_000))], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(async () => await StartsAsync(database, 1) == 2, "both jobs run");
        await using var other = await WorkerProcess.StartAsync(database);

        var killed = TimeProvider.System.GetTimestamp();
        victim.Kill();
        await Eventually.TrueAsync(async () => await StartsAsync(database, 2) == 2, "both jobs run again", 10);
        TestContext.Current.TestOutputHelper?.WriteLine($"Run again after {TimeProvider.System.GetElapsedTime(killed).TotalSeconds:F1} s.");

        Assert.Equal("0|1|2", await database.ScalarAsync<string>("SELECT DISTINCT concat_ws('|', failures, crashes, attempt) FROM outbox.jobs"));
        Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers"));
    }

    [Fault("W02", "SIGSTOP beyond the lease, SIGCONT when the job has run elsewhere", "its completion changes nothing and its transaction rolls back")]
    [Fact]
    public async Task A_worker_that_was_frozen_past_its_lease_changes_nothing_when_it_wakes()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        await using var zombie = await WorkerProcess.StartAsync(database, lease: 3);
        await new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new EffectJob(1, 2_000))], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(async () => await StartsAsync(database, 1) == 1, "the job runs");
        zombie.Signal(Signals.Stop);

        await using var other = await WorkerProcess.StartAsync(database, lease: 3);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM effects WHERE attempt = 2") == 1, "another worker does it", 30);
        zombie.Signal(Signals.Continue);
        await Eventually.TrueAsync(() => zombie.Output.Contains("goes on under a new lease", StringComparison.Ordinal), "the zombie hears of its death");
        await Eventually.TrueAsync(
            () => zombie.Output.Contains("is not this attempt's any more", StringComparison.Ordinal) || zombie.Output.Contains("was not this worker's any more", StringComparison.Ordinal),
            "its attempt is fenced off");

        Assert.Equal("1|2", await database.ScalarAsync<string>("SELECT string_agg(concat_ws('|', number, attempt), ',') FROM effects"));
        Assert.Equal("2|completed", await database.ScalarAsync<string>("SELECT string_agg(concat_ws('|', attempt, state), ',') FROM outbox.job_history"));
        Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers"));
    }

    [Fault("W21", "a handler ends its process, each time", "set aside after five; its neighbours complete and are not charged")]
    [Fact]
    public async Task A_job_that_kills_its_process_is_set_aside_and_its_neighbours_complete()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        var queue = new JobQueue(database.DataSource);
        var crash = NewJob.Create(new CrashJob(0));
        await queue.EnqueueAsync(
            [crash, .. Enumerable.Range(1, 4).Select(n => NewJob.Create(new SlowJob(n, 300)))], TestContext.Current.CancellationToken);

        // Somebody restarts the worker, as a container platform would. The one that sees the job set aside stays.
        await using var worker = new Restarted(database);
        while (await StateAsync(database, crash.Id) != "dead")
        {
            var process = await worker.StartAsync();
            await Eventually.TrueAsync(
                async () => process.HasExited || await StateAsync(database, crash.Id) == "dead", "the worker dies, or the job is set aside", 40);
        }

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "nothing waits");
        Assert.Equal("5|5|0|crashed", await database.ScalarAsync<string>(
            $"SELECT concat_ws('|', attempt, crashes, failures, errors->-1->>'type') FROM outbox.job_history WHERE id = '{crash.Id}'"));
        Assert.Equal("4|0|2", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', count(*), max(failures), max(crashes)) FROM outbox.job_history WHERE kind = 'slow' AND state = 'completed'"));
    }

    [Fault("W22", "a handler takes all memory", "dead with a reason; its neighbours complete")]
    [Fact]
    public async Task W22_a_job_that_takes_all_memory_ends_as_dead_and_its_neighbours_complete()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        var queue = new JobQueue(database.DataSource);
        var hog = NewJob.Create(new HogJob(0), new() { MaxAttempts = 1 });
        await queue.EnqueueAsync(
            [hog, .. Enumerable.Range(1, 4).Select(n => NewJob.Create(new SlowJob(n, 300)))], TestContext.Current.CancellationToken);

        // Whether the runtime throws or the process ends is not ours to say.
        await using var worker = new Restarted(database, memory: 150);
        while (await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") > 0)
        {
            var process = await worker.StartAsync();
            await Eventually.TrueAsync(
                async () => process.HasExited || await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "the worker dies, or nothing is left", 40);
        }

        Assert.Contains(
            await database.ScalarAsync<string>($"SELECT concat_ws('|', state, errors->-1->>'type') FROM outbox.job_history WHERE id = '{hog.Id}'"),
            new[] { "dead|System.OutOfMemoryException", "dead|crashed" });
        Assert.Equal(4L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE kind = 'slow' AND state = 'completed'"));
    }

    private sealed class Restarted(ScratchDatabase database, int? memory = null) : IAsyncDisposable
    {
        private WorkerProcess? process;

        public async Task<WorkerProcess> StartAsync()
        {
            await DisposeAsync();
            return process = await WorkerProcess.StartAsync(database, lease: 1.5, memory: memory);
        }

        public ValueTask DisposeAsync() => process?.DisposeAsync() ?? ValueTask.CompletedTask;
    }

    private static Task<long> StartsAsync(ScratchDatabase database, int attempt) =>
        database.ScalarAsync<long>($"SELECT count(*) FROM runs WHERE what = 'start' AND attempt = {attempt}");

    private static Task<string> StateAsync(ScratchDatabase database, Guid id) =>
        database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'");
}
