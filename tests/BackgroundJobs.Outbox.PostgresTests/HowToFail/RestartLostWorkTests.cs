using System.Threading.Channels;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// The queue was in memory, and a deployment emptied it.
public sealed class RestartLostWorkTests
{
    [Fact]
    public async Task Naive_a_queue_in_memory_forgets_what_was_not_done_at_a_restart()
    {
        List<int> done = [];
        var before = Channel.CreateUnbounded<int>();
        for (var n = 0; n < 10; n++)
            await before.Writer.WriteAsync(n, TestContext.Current.CancellationToken);
        done.Add(await before.Reader.ReadAsync(TestContext.Current.CancellationToken));

        // The process restarts.
        var after = Channel.CreateUnbounded<int>();
        after.Writer.Complete();
        await foreach (var n in after.Reader.ReadAllAsync(TestContext.Current.CancellationToken))
            done.Add(n);
        Assert.Single(done);
    }

    [Fact]
    public async Task Ours_three_restarts_one_of_them_by_force_lose_nothing_and_burn_no_attempt()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        await new JobQueue(database.DataSource).EnqueueAsync(
            [.. Enumerable.Range(1, 120).Select(n => NewJob.Create(new EffectJob(n, 100)))], TestContext.Current.CancellationToken);

        foreach (var (signal, until) in new[] { (Signals.Terminate, 20), (0, 50), (Signals.Terminate, 80) })
        {
            await using var worker = await WorkerProcess.StartAsync(database, lease: 3);
            await Eventually.TrueAsync(async () => await EffectsAsync(database) >= until, $"{until} are done");
            if (signal == 0)
                worker.Kill();
            else
                worker.Signal(signal);
            await worker.ExitAsync();
        }

        await using var last = await WorkerProcess.StartAsync(database, lease: 3);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all are done", 30);
        Assert.Equal("120|120", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(DISTINCT number)) FROM effects"));
        Assert.Equal(0, await database.ScalarAsync<int>("SELECT max(failures)::integer FROM outbox.job_history"));
    }

    private static Task<long> EffectsAsync(ScratchDatabase database) => database.ScalarAsync<long>("SELECT count(*) FROM effects");
}
