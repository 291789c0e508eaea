using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// An application that saves entities with their jobs, in every form of a transaction, and says what it was told about each.
internal static class WriterProgram
{
    private const int Parallel = 3;

    // What two cores get through beside the faults. More would only be a longer drain.
    private const long EnoughWaiting = 1500;
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(100);

    public static async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        var settings = ActorSettings.FromEnvironment();
        using var log = new ActorLog(settings.LogFile);
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        using var host = builder.Build();
        var lifetime = host.Services.GetRequiredService<IHostApplicationLifetime>();
        WorkerProgram.StopWithParent(lifetime);
        await host.StartAsync(cancellationToken);
        await using var connections = NpgsqlDataSource.Create($"{settings.ConnectionString};Application Name=writer {settings.Name}");
        var backlog = new Backlog(connections);
        var writers = Enumerable.Range(0, Parallel).Select(number =>
            Task.Run(() => RunAsync(new Operations(connections, log, settings, number), backlog, unchecked(settings.Seed + (number * 104_729)), lifetime.ApplicationStopping), CancellationToken.None));
        await Task.WhenAll([
            .. writers,
            OperateAsync(new Operator(connections, log, settings.Seed), lifetime.ApplicationStopping),
            backlog.WatchAsync(lifetime.ApplicationStopping)]);
        await host.StopAsync(CancellationToken.None);
        return 0;
    }

    private static async Task RunAsync(Operations operations, Backlog backlog, int seed, CancellationToken stopping)
    {
        var random = new Random(seed);
        while (!stopping.IsCancellationRequested)
        {
            if (backlog.Waiting < EnoughWaiting)
                await operations.OneAsync(random);
            await Task.Delay(LongestPause * random.NextDouble(), TimeProvider.System, stopping).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static async Task OperateAsync(Operator one, CancellationToken stopping)
    {
        while (!stopping.IsCancellationRequested)
        {
            await one.OneAsync();
            await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System, stopping).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private sealed class Backlog(NpgsqlDataSource connections)
    {
        public long Waiting { get; private set; }

        public async Task WatchAsync(CancellationToken stopping)
        {
            while (!stopping.IsCancellationRequested)
            {
                try
                {
                    await using var command = connections.CreateCommand("SELECT count(*) FROM outbox.jobs");
                    Waiting = (long)(await command.ExecuteScalarAsync(stopping))!;
                }
                catch (Exception e) when (e is NpgsqlException or OperationCanceledException)
                {
                    // The last known number holds: a fault is no reason to write more, or less.
                }

                await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System, stopping).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }
}
