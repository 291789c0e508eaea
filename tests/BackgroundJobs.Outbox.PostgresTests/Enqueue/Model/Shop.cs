using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;

// A database with our schema and the shop's tables, and contexts on it.
internal sealed class Shop : IAsyncDisposable
{
    private readonly Npgsql.NpgsqlDataSource source;

    private Shop(ScratchDatabase database, Npgsql.NpgsqlDataSource source)
    {
        Database = database;
        this.source = source;
    }

    public ScratchDatabase Database { get; }

    // Contexts may enqueue, and no more; with runsJobs they may complete what a worker claimed.
    public static async Task<Shop> OpenAsync(bool runsJobs = false)
    {
        var database = await ScratchDatabase.MigratedAsync();
        var shop = new Shop(database, runsJobs ? database.DataSource : database.Enqueuer);
        await using var db = shop.Context();
        await db.GetService<IRelationalDatabaseCreator>().CreateTablesAsync(TestContext.Current.CancellationToken);
        return shop;
    }

    public ShopContext Context(Action<DbContextOptionsBuilder>? more = null) => new(Options<ShopContext>(more));

    public DbContextOptions<TContext> Options<TContext>(Action<DbContextOptionsBuilder>? more = null)
        where TContext : DbContext
    {
        var builder = new DbContextOptionsBuilder<TContext>();
        builder.UseNpgsql(source).EnableServiceProviderCaching();
        more?.Invoke(builder);
        builder.UseOutbox();
        return builder.Options;
    }

    // "kind args" of every job, in the order of the text.
    public Task<List<string>> JobsAsync() =>
        Database.TextsAsync("select kind || ' ' || args::text from outbox.jobs order by 1");

    public Task<long> ServersAsync() => Database.ScalarAsync<long>("select count(*) from \"Servers\"");

    public async ValueTask DisposeAsync() => await Database.DisposeAsync();
}

internal static class SaveExtensions
{
    // EF has two paths through everything: one test shows both.
    public static async Task<int> SaveAsync(this DbContext db, bool sync) =>
#pragma warning disable CA1849, xUnit1051 // That both are the same is what is tested.
        sync ? db.SaveChanges() : await db.SaveChangesAsync(TestContext.Current.CancellationToken);
#pragma warning restore CA1849, xUnit1051
}
