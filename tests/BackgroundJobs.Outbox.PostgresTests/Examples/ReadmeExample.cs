using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

// The README's example, compiled and run. What stands between the marks stands in the README, word for word.
public static class ReadmeExample
{
    public static IHost Build(string connectionString)
    {
        var builder = Host.CreateApplicationBuilder();
        // readme:begin
        builder.Services.AddDbContext<AppDb>(db => db.UseNpgsql(connectionString).UseOutbox());
        builder.Services.AddOutbox(outbox => outbox.Handle<BootServer, BootServerHandler>());
        builder.Services.AddOutboxWorker(worker => worker.ConnectionString = connectionString);
        // readme:end
        return builder.Build();
    }

    public static async Task<long> SaveAsync(AppDb db)
    {
        // readme:begin
        var server = new Server { Name = "db-1" };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id));      // the key that this very SaveChanges makes
        await db.SaveChangesAsync();                      // both, or neither
        // readme:end
        return server.Id;
    }

    // readme:begin
    public sealed record BootServer(long ServerId) : IJob
    {
        public static string Kind => "boot_server";       // what is stored; a renamed class changes nothing
    }

    public sealed class BootServerHandler(AppDb db) : IJobHandler<BootServer>
    {
        public async Task HandleAsync(BootServer job, JobContext context, CancellationToken cancellationToken)
        {
            var server = await db.Servers.SingleAsync(each => each.Id == job.ServerId, cancellationToken);
            server.Booted = true;
            context.CompleteWith(db);                     // the effect and the job's completion: one COMMIT
            await db.SaveChangesAsync(cancellationToken);
        }
    }
    // readme:end

    public sealed class Server
    {
        public long Id { get; set; }

        public required string Name { get; set; }

        public bool Booted { get; set; }
    }

    public sealed class AppDb(DbContextOptions<AppDb> options) : DbContext(options)
    {
        public DbSet<Server> Servers => Set<Server>();
    }
}
