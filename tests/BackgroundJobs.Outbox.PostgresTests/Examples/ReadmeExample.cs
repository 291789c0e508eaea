using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Worker;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Migrations;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Npgsql;

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

    public static async Task MigrateAsync(string connectionString)
    {
        var migrationBuilder = new MigrationBuilder("Npgsql.EntityFrameworkCore.PostgreSQL");
        // readme:begin
        await Migrator.MigrateAsync(connectionString);        // at start; safe when many processes do it at once
        migrationBuilder.Sql(Migrator.Script());              // inside your own EF migrations
        Console.Write(Migrator.Script());                     // for whoever runs SQL by hand
        // readme:end
    }

    public static void Enqueue(AppDb db)
    {
        // readme:begin
        db.Enqueue(new SendReport(7), new() { Queue = "mail", Priority = 1, Delay = TimeSpan.FromMinutes(5), MaxAttempts = 3 });
        // readme:end
    }

    public static void Rules(ModelBuilder modelBuilder)
    {
        // readme:begin
        modelBuilder.Entity<Server>().EnqueuesOnInsert(server => new BootServer(server.Id));       // rules, next to the entity
        modelBuilder.Entity<Server>().EnqueuesOnUpdate(server => new ResizeServer(server.Id), server => server.Size);
        modelBuilder.Entity<Server>().EnqueuesOnDelete(server => new ReleaseServer(server.Id));
        // readme:end
    }

    public static async Task EnqueueAsync(JobQueue queue, NpgsqlTransaction npgsqlTransaction)
    {
        // readme:begin
        await queue.EnqueueAsync(npgsqlTransaction, new BootServer(7));                            // Dapper, raw Npgsql
        // readme:end
    }

    public static void Run(IServiceCollection services)
    {
        // readme:begin
        services.AddOutbox(outbox => outbox.Handle<BootServer, BootServerHandler>(kind =>
        {
            kind.Timeout = TimeSpan.FromMinutes(2);
            kind.Retry = RetryPolicy.Exponential(cap: TimeSpan.FromMinutes(10)).When<HttpRequestException>(RetryPolicy.Fixed(TimeSpan.FromSeconds(5)));
        }));
        services.AddOutboxWorker(worker => worker.Queue("default", concurrency: 10).Queue("mail", concurrency: 2));
        // readme:end
    }

    public static async Task<EndedJob> WorkflowAsync(AppDb db, JobQueue queue, Server[] servers)
    {
        // readme:begin
        var flow = db.StartWorkflow();
        var boots = servers.Select(server => flow.Enqueue(() => new BootServer(server.Id))).ToList();
        var report = flow.Enqueue(new SendReport(7), after: [.. boots]);                           // when all have completed; or some.Always, one.OnFailure
        await db.SaveChangesAsync();                                                                // the servers and the whole graph, or nothing
        var ended = await queue.WaitAsync(report.Id, TimeSpan.FromMinutes(5));                      // how it ended, and what it left with context.Result(...)
        // readme:end
        return ended;
    }

    public static void Unique(AppDb db)
    {
        // readme:begin
        db.Enqueue(new SyncShop(7), new() { Unique = UniqueJob.WhileWaiting("7") });               // one that waits is enough, and it will see this save
        db.Enqueue(new SendReport(7), new() { Unique = UniqueJob.Debounce("7", TimeSpan.FromSeconds(5), max: TimeSpan.FromMinutes(1)) });
        // readme:end
    }

    public static void Limits(OutboxWorkerOptions worker, AppDb db)
    {
        // readme:begin
        worker.Queue("mail", concurrency: 20, new QueueLimits { Concurrency = 50, Rate = new(100, TimeSpan.FromSeconds(1)) });
        worker.Queue("sync", concurrency: 20, new QueueLimits { GroupConcurrency = 2 });

        db.Enqueue(new SyncShop(7), new() { Queue = "sync", Group = "tenant 7" });
        // readme:end
    }

    public static void Schedules(IServiceCollection services)
    {
        // readme:begin
        services.AddOutboxWorker(worker => worker
            .Schedule(new() { Name = "nightly-report", Cron = "0 2 * * *", TimeZone = "Europe/Berlin" }, new SendReport(7))
            .Schedule(new() { Name = "sync", Every = TimeSpan.FromMinutes(5), Overlap = false, Missed = MissedTicks.Skip }, new SyncAll()));
        // readme:end
    }

    public static async Task ScheduleAsync(JobQueue queue, NpgsqlTransaction npgsqlTransaction, NpgsqlDataSource dataSource, int tenant)
    {
        // readme:begin
        await queue.SetScheduleAsync(npgsqlTransaction, new() { Name = $"bill-{tenant}", Cron = "0 6 1 * *" }, new BillTenant(tenant));   // with the tenant's row
        await new JobAdmin(dataSource).PauseScheduleAsync("sync");                                  // or run it now, change it, delete it
        // readme:end
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

    public sealed record SyncAll : IJob
    {
        public static string Kind => "sync_all";
    }

    public sealed record SyncShop(int ShopId) : IJob
    {
        public static string Kind => "sync_shop";
    }

    public sealed record BillTenant(int Tenant) : IJob
    {
        public static string Kind => "bill_tenant";
    }

    public sealed record SendReport(int Number) : IJob
    {
        public static string Kind => "send_report";
    }

    public sealed record ResizeServer(long ServerId) : IJob
    {
        public static string Kind => "resize_server";
    }

    public sealed record ReleaseServer(long ServerId) : IJob
    {
        public static string Kind => "release_server";
    }

    public sealed class Server
    {
        public long Id { get; set; }

        public required string Name { get; set; }

        public int Size { get; set; }

        public bool Booted { get; set; }
    }

    public sealed class AppDb(DbContextOptions<AppDb> options) : DbContext(options)
    {
        public DbSet<Server> Servers => Set<Server>();
    }
}
