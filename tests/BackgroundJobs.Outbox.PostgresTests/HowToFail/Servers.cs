using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// The talk's application: a server is saved, and a job boots it.
internal sealed class Server
{
    public long Id { get; set; }

    public required string Name { get; set; }

    public int Boots { get; set; }
}

internal sealed record BootServer(long ServerId) : IJob
{
    public static string Kind => "boot_server";
}

internal sealed class ServerContext(DbContextOptions<ServerContext> options) : DbContext(options)
{
    public DbSet<Server> Servers => Set<Server>();

    public static async Task<ScratchDatabase> CreateDatabaseAsync()
    {
        var database = await ScratchDatabase.MigratedAsync();
        await using var db = Open(database);
        await db.GetService<IRelationalDatabaseCreator>().CreateTablesAsync(TestContext.Current.CancellationToken);
        return database;
    }

    public static ServerContext Open(ScratchDatabase database) => new(Options(new DbContextOptionsBuilder<ServerContext>(), database).Options);

    // A context in the handler's scope.
    public static void AddTo(IServiceCollection services, ScratchDatabase database) =>
        services.AddDbContext<ServerContext>(builder => builder.UseNpgsql(database.ConnectionString).UseOutbox());

    private static DbContextOptionsBuilder<ServerContext> Options(DbContextOptionsBuilder<ServerContext> builder, ScratchDatabase database) =>
        builder.UseNpgsql(database.ConnectionString).UseOutbox();
}

// Boots a server; effect and completion are one COMMIT.
internal sealed class BootServerHandler(ServerContext db, BootLog log) : IJobHandler<BootServer>
{
    public async Task HandleAsync(BootServer job, JobContext context, CancellationToken cancellationToken)
    {
        var server = await db.Servers.SingleOrDefaultAsync(each => each.Id == job.ServerId, cancellationToken);
        if (server is null)
        {
            log.NotFound(job.ServerId);
            throw new InvalidOperationException($"RecordNotFound: server {job.ServerId}");
        }

        server.Boots++;
        context.CompleteWith(db);
        await db.SaveChangesAsync(cancellationToken);
        log.Booted(job.ServerId);
    }
}

// What happened, for the tests' eyes.
internal sealed class BootLog
{
    private readonly System.Collections.Concurrent.ConcurrentBag<long> notFound = [];
    private readonly System.Collections.Concurrent.ConcurrentBag<long> booted = [];

    public IReadOnlyCollection<long> AllNotFound => notFound;

    public IReadOnlyCollection<long> AllBooted => booted;

    public void NotFound(long id) => notFound.Add(id);

    public void Booted(long id) => booted.Add(id);
}
