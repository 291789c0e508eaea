using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace ServerBoot;

internal sealed record WorkerSettings(string ConnectionString, int Seed)
{
    // By the environment: a command line can be read by every user of the machine, and this may hold a password.
    public const string ConnectionVariable = "SERVERBOOT_CONNECTION";
    public const string SeedVariable = "SERVERBOOT_SEED";

    public static WorkerSettings FromEnvironment() => new(
        Environment.GetEnvironmentVariable(ConnectionVariable)
            ?? throw new InvalidOperationException($"{ConnectionVariable} is not set: a worker is started by the sample, not by hand."),
        int.TryParse(Environment.GetEnvironmentVariable(SeedVariable), out var seed) ? seed : 1);
}

// What one worker process is: an ordinary host, as an application would have it.
internal static class WorkerProgram
{
    // Few: two workers shall have something to do during the whole run, and something in their hands when they are killed.
    private const int Concurrency = 2;

    public static async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        var settings = WorkerSettings.FromEnvironment();
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders().AddSimpleConsole(console => console.SingleLine = true).SetMinimumLevel(LogLevel.Warning);
        builder.Services.AddSingleton(settings);
        builder.Services.AddSingleton(TimeProvider.System);
        builder.Services.AddSingleton(NpgsqlDataSource.Create(settings.ConnectionString));
        builder.Services.AddDbContext<BootDb>((services, db) => db.UseNpgsql(services.GetRequiredService<NpgsqlDataSource>()).UseOutbox());
        builder.Services.AddOutbox(outbox => outbox.Handle<BootServer, BootServerHandler>());
        builder.Services.AddOutboxWorker(worker =>
        {
            worker.ConnectionString = settings.ConnectionString;
            worker.Queue("default", Concurrency);
        });
        using var host = builder.Build();
        var lifetime = host.Services.GetRequiredService<IHostApplicationLifetime>();

        // The end of our standard input is the end of the sample, also of one that was killed: no worker outlives it.
        _ = Task.Run(async () =>
        {
            while (await Console.In.ReadLineAsync(CancellationToken.None) is not null)
            {
            }

            lifetime.StopApplication();
        }, CancellationToken.None);
        await WarmUpAsync(host.Services, cancellationToken);
        await host.RunAsync(cancellationToken);
        return 0;
    }

    // What EF Core and the compiler do once per process, before the worker claims anything: no server shall wait for it.
    private static async Task WarmUpAsync(IServiceProvider services, CancellationToken cancellationToken)
    {
        await using var scope = services.CreateAsyncScope();
        var db = scope.ServiceProvider.GetRequiredService<BootDb>();
        await using var transaction = await db.Database.BeginTransactionAsync(cancellationToken);
        await db.Servers.SingleOrDefaultAsync(each => each.Id == 0, cancellationToken);
        db.Boots.Add(new Boot { ServerId = 0, JobId = Guid.Empty, Attempt = 0, WorkerPid = Environment.ProcessId });
        await db.SaveChangesAsync(cancellationToken);
        await transaction.RollbackAsync(cancellationToken);
    }
}
