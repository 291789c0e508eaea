using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// A worker took jobs and died, or came back from the dead and did them a second time.
public sealed class ZombieSwallowedJobsTests
{
    [Fact]
    public async Task Naive_a_state_column_keeps_the_jobs_of_a_dead_worker_for_ever()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await database.ExecuteAsync("""
            CREATE TABLE naive (id integer, state text);
            INSERT INTO naive SELECT n, 'waiting' FROM generate_series(1, 10) AS n;
            UPDATE naive SET state = 'running' WHERE id <= 5;
            """);

        // Here the worker that claimed five of them dies. The next one finds the rest, and only the rest.
        await database.ExecuteAsync("UPDATE naive SET state = 'done' WHERE state = 'waiting'");
        Assert.Equal(5L, await database.ScalarAsync<long>("SELECT count(*) FROM naive WHERE state = 'running'"));
    }

    [Fact]
    public async Task Naive_a_timeout_without_a_fence_lets_the_zombie_do_it_twice()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await database.ExecuteAsync("""
            CREATE TABLE naive (id integer, state text);
            CREATE TABLE effects (id integer);
            INSERT INTO naive VALUES (1, 'running');
            """);
        string[] steps =
        [
            "UPDATE naive SET state = 'waiting' WHERE id = 1", // The timeout gives the frozen worker's job away,
            "INSERT INTO effects VALUES (1); UPDATE naive SET state = 'done' WHERE id = 1", // another worker does it,
            "INSERT INTO effects VALUES (1); UPDATE naive SET state = 'done' WHERE id = 1", // and the first one wakes up.
        ];
        foreach (var step in steps)
            await database.ExecuteAsync(step);
        Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(*) FROM effects"));
    }

    [Fact]
    public async Task Ours_of_workers_that_are_killed_and_frozen_in_turn_no_job_is_lost_and_none_has_its_effect_twice()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        await using var frozen = await WorkerProcess.StartAsync(database, lease: 3);
        await using var killed = await WorkerProcess.StartAsync(database, lease: 3);
        await new JobQueue(database.DataSource).EnqueueAsync(
            [.. Enumerable.Range(1, 100).Select(n => NewJob.Create(new EffectJob(n, 150)))], TestContext.Current.CancellationToken);

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(DISTINCT process_id) FROM runs") == 2, "both work");
        frozen.Signal(Signals.Stop);
        killed.Kill();
        await using var healthy = await WorkerProcess.StartAsync(database, lease: 3);

        // All but what the frozen one had completed in a transaction that is still open: that alone may decide about those.
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>($"""
                SELECT (SELECT count(*) FROM effects) >= 95
                   AND NOT EXISTS (
                       SELECT FROM outbox.jobs
                       WHERE worker_id IS NULL OR worker_id IN (SELECT id FROM outbox.workers WHERE process_id = {healthy.Id}))
                """),
            "the healthy one does all that it may",
            60);
        frozen.Signal(Signals.Continue);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "the rest ends too");
        await Eventually.TrueAsync(() => frozen.Output.Contains("goes on under a new lease", StringComparison.Ordinal), "the zombie finds itself dead");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<int>($"SELECT running FROM outbox.workers WHERE process_id = {frozen.Id} AND dead_at IS NULL") == 0, "and ends its attempts");

        Assert.Equal("100|100", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(DISTINCT number)) FROM effects"));
        Assert.Equal("100|100", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(DISTINCT id)) FROM outbox.job_history WHERE state = 'completed'"));
    }
}
