using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// Each a clear error before anything is written.
public sealed class BadInputTests
{
    private static readonly EnqueueOptions None = EnqueueOptions.None;

    public static TheoryData<string, EnqueueOptions, string[]> Bad => new()
    {
        { new string('x', 70_000), None, ["'told'", "70011 bytes", "65536", "pass its key"] },
        { "a\0b", None, ["'told'", "NUL", "half a surrogate"] },
        { "a\ud800b", None, ["'told'", "half a surrogate"] },
        { "a", new() { Queue = "" }, ["queue"] },
        { "a", new() { Queue = new string('q', 64) }, ["63"] },
        { "a", new() { Queue = "Ünd;" }, ["a-z"] },
        { "a", new() { Priority = 0 }, ["'told'", "priority 0", "1 (first) to 4"] },
        { "a", new() { Priority = 5 }, ["'told'", "priority 5", "1 (first) to 4"] },
        { "a", new() { RunAt = DateTimeOffset.MaxValue }, ["'told'", "9999", "RunAt null"] },
        { "a", new() { RunAt = DateTimeOffset.MinValue }, ["'told'", "RunAt null"] },
        { "a", new() { MaxAttempts = 0 }, ["'told'", "max attempts 0", "1 to 1000"] },
    };

    [Theory]
    [MemberData(nameof(Bad), DisableDiscoveryEnumeration = true)]
    public async Task What_cannot_be_stored_is_refused_and_nothing_is_added(string text, EnqueueOptions options, string[] parts)
    {
        await using var db = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseNpgsql("Host=nowhere").UseOutbox().Options);
        var error = Assert.Throws<InvalidJobException>(() => db.Enqueue(new Told(text), options));
        Assert.All(parts, part => Assert.Contains(part, error.Message, StringComparison.Ordinal));
        Assert.Empty(db.ChangeTracker.Entries());
    }

    [Fact]
    public async Task Arguments_that_do_not_serialise_are_refused()
    {
        await using var db = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseNpgsql("Host=nowhere").UseOutbox().Options);
        var error = Assert.Throws<InvalidJobException>(() => db.Enqueue(new Ring()));
        Assert.Contains("'ring'", error.Message, StringComparison.Ordinal);
        Assert.Contains("Use plain data", error.Message, StringComparison.Ordinal);
        Assert.Empty(db.ChangeTracker.Entries());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Late_bound_arguments_that_are_too_large_are_refused_by_the_save_before_anything_is_written(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var server = new Server { Name = "a" };
        db.Add(server);
        db.Enqueue(() => new Told(server.Id + new string('x', 70_000)));
        var error = await Assert.ThrowsAsync<InvalidJobException>(() => db.SaveAsync(sync));
        Assert.Contains("65536", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, await shop.ServersAsync());
    }

    [Fact]
    public async Task A_context_without_UseOutbox_is_refused_with_what_to_call()
    {
        await using var db = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseNpgsql("Host=nowhere").Options);
        var error = Assert.Throws<OutboxException>(() => db.Enqueue(new Told("a")));
        Assert.Contains("ShopContext", error.Message, StringComparison.Ordinal);
        Assert.Contains("Call UseOutbox()", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_database_without_our_schema_or_with_an_older_one_is_named_and_nothing_is_written(bool sync, bool old)
    {
        await using var database = old ? await ScratchDatabase.MigratedAsync() : await ScratchDatabase.EmptyAsync();
        await using var db = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseNpgsql(database.DataSource).UseOutbox().Options);
        await db.GetService<IRelationalDatabaseCreator>().CreateTablesAsync(TestContext.Current.CancellationToken);
        if (old)
            await database.ExecuteAsync("alter table outbox.jobs drop column traceparent cascade");
        db.Add(new Server { Name = "a" });
        db.Enqueue(new Told("a"));
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => db.SaveAsync(sync));
        Assert.Contains(old ? "older than this version" : "no outbox in schema 'outbox'", error.Message, StringComparison.Ordinal);
        Assert.Contains("Run the Migrator", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, await database.ScalarAsync<long>("select count(*) from \"Servers\""));
    }

    [Fact]
    public async Task A_kind_without_a_handler_is_refused_where_there_are_handlers_unless_it_is_allowed()
    {
        await using var services = new ServiceCollection()
            .AddOutbox(outbox => outbox.Handle<Told>((_, _, _) => Task.CompletedTask).AllowUnhandled<Keyed>())
            .AddDbContext<ShopContext>(options => options.UseNpgsql("Host=nowhere").UseOutbox())
            .BuildServiceProvider();
        await using var scope = services.CreateAsyncScope();
        var db = scope.ServiceProvider.GetRequiredService<ShopContext>();
        db.Enqueue(new Told("a"));
        db.Enqueue(new Keyed(Guid.NewGuid()));
        foreach (var enqueue in new Action[] { () => db.Enqueue(new BootServer(1)), () => db.Enqueue(() => new BootServer(1)) })
        {
            var error = Assert.Throws<UnknownJobKindException>(enqueue);
            Assert.Contains("'boot_server'", error.Message, StringComparison.Ordinal);
            Assert.Contains("AllowUnhandled", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(2, db.ChangeTracker.Entries().Count());
    }

    private sealed record Ring : IJob
    {
        public static string Kind => "ring";

        public Ring Next => this;
    }
}
