using System.Threading.Channels;
using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// The queue was in memory, and a deployment emptied it.
public sealed class RestartLostWorkTests
{
    [Fact]
    public async Task Naive_a_queue_in_memory_forgets_what_was_not_done_at_a_restart()
    {
        var queue = Channel.CreateUnbounded<int>();
        List<int> done = [];
        var builder = Host.CreateEmptyApplicationBuilder(new() { DisableDefaults = true });
        builder.Services.AddHostedService(_ => new InMemoryWorker(queue.Reader, done));
        using (var host = builder.Build())
        {
            await host.StartAsync(TestContext.Current.CancellationToken);
            for (var n = 1; n <= 10; n++)
                await queue.Writer.WriteAsync(n, TestContext.Current.CancellationToken);
            await Eventually.TrueAsync(() => done.Count > 0, "one is done");
            await host.StopAsync(TestContext.Current.CancellationToken);
        }

        // Accepted, and nowhere after the restart: the new process begins with a queue of its own.
        Assert.InRange(done.Count, 1, 9);
    }

    [Fault("W18", "restarts under load", "nothing lost, no attempt burned")]
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

    // What the template of every tutorial does.
    private sealed class InMemoryWorker(ChannelReader<int> queue, List<int> done) : BackgroundService
    {
        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            await foreach (var n in queue.ReadAllAsync(stoppingToken))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, stoppingToken);
                done.Add(n);
            }
        }
    }
}
