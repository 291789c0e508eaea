using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// A worker in the test's own process, on a database of the test's own.
internal sealed class WorkerHost : IAsyncDisposable
{
    private readonly IHost host;

    private WorkerHost(IHost host, OutboxOptions options, TestLog log, ScratchDatabase database)
    {
        this.host = host;
        Log = log;
        Queue = new JobQueue(database.DataSource, options);
        Options = options;
    }

    public TestLog Log { get; }

    public JobQueue Queue { get; }

    public OutboxOptions Options { get; }

    public IServiceProvider Services => host.Services;

    public static async Task<WorkerHost> StartAsync(
        ScratchDatabase database,
        Action<OutboxOptions> outbox,
        Action<OutboxWorkerOptions>? worker = null,
        Action<IServiceCollection>? services = null)
    {
        var log = new TestLog();
        var builder = Host.CreateEmptyApplicationBuilder(new() { DisableDefaults = true });
        builder.Logging.ClearProviders().AddProvider(log);
        builder.Services.AddOutbox(outbox);
        builder.Services.AddOutboxWorker(options =>
        {
            options.ConnectionString = database.ConnectionString;
            worker?.Invoke(options);
        });
        services?.Invoke(builder.Services);
        var host = builder.Build();
        await host.StartAsync(TestContext.Current.CancellationToken);
        return new WorkerHost(host, host.Services.GetRequiredService<OutboxOptions>(), log, database);
    }

    public async Task<Guid> EnqueueAsync<TJob>(TJob job, EnqueueOptions? options = null)
        where TJob : IJob
    {
        var created = NewJob.Create(job, options, Options);
        await Queue.EnqueueAsync([created], TestContext.Current.CancellationToken);
        return created.Id;
    }

    public Task StopAsync() => host.StopAsync(CancellationToken.None);

    public async ValueTask DisposeAsync()
    {
        await host.StopAsync(CancellationToken.None);
        host.Dispose();
    }
}
