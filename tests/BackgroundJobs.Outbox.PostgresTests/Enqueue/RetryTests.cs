using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// EnableRetryOnFailure, with serialization failures that the server itself raises.
public sealed class RetryTests
{
    [Fault("E23", "the key in the arguments is known after the insert, and the save is retried", "the arguments hold the committed key")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E23_A_save_that_the_strategy_retries_has_one_entity_and_one_job_with_its_key(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await FailTwiceAsync(shop);
        await using var db = Retrying(shop);
        var server = new Server { Name = "a" };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id));
        await db.SaveAsync(sync);

        Assert.Equal(3, await shop.Database.ScalarAsync<long>("select last_value from tries"));
        Assert.Equal([$"boot_server {{\"serverId\": {server.Id}}}"], await shop.JobsAsync());
        Assert.Equal(server.Id, await shop.Database.ScalarAsync<long>("select \"Id\" from \"Servers\""));
    }

    [Fact]
    public async Task The_one_round_trip_for_keys_is_retried_too()
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("""
            create sequence tries;
            create function flaky() returns bigint language plpgsql as
            $$ begin if nextval('tries') < 3 then raise exception 'injected' using errcode = '40001'; end if; return nextval('numbers'); end $$;
            """);
        await using var db = new FlakyContext(shop.Options<FlakyContext>(options => options.UseNpgsql(shop.Database.DataSource, npgsql => npgsql.EnableRetryOnFailure())));
        var row = new NextvalRow();
        db.Add(row);
        db.Enqueue(() => new BootServer(row.Id));
        await db.SaveAsync(sync: false);

        Assert.Equal(5000, row.Id);
        Assert.Equal(["boot_server {\"serverId\": 5000}"], await shop.JobsAsync());
    }

    // EF's own advice: accept the changes after the commit, so that a retry of the delegate finds them again.
    [Fault("E22", "acceptAllChangesOnSuccess: false, and a retry", "one job")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E22_A_delegate_that_saves_without_accepting_changes_and_is_retried_has_one_job(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await FailTwiceAsync(shop, deferred: true);
        await using var db = Retrying(shop);
        var server = new Server { Name = "a" };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id));
        db.Enqueue(new Told("known"));
        var token = TestContext.Current.CancellationToken;
        await db.Database.CreateExecutionStrategy().ExecuteInTransactionAsync(
            async () => _ = sync ? Sync(db) : await db.SaveChangesAsync(acceptAllChangesOnSuccess: false, token),
            async () => await db.Servers.AsNoTracking().AnyAsync(each => each.Name == "a", token));
        db.ChangeTracker.AcceptAllChanges();
        await db.SaveAsync(sync);

        Assert.Equal(3, await shop.Database.ScalarAsync<long>("select last_value from tries"));
        Assert.Equal([$"boot_server {{\"serverId\": {server.Id}}}", "told {\"text\": \"known\"}"], await shop.JobsAsync());
        Assert.Equal(1, await shop.ServersAsync());
    }

    [Fault("E07", "a retried delegate enqueues again", "with a stable id the second is a duplicate that says so")]
    [Fact]
    public async Task E07_E32_A_stable_id_of_a_retried_delegate_makes_the_second_insert_a_duplicate_that_says_so()
    {
        await using var shop = await Shop.OpenAsync();
        var id = Guid.NewGuid();
        for (var attempt = 0; attempt < 2; attempt++)
        {
            await using var db = Retrying(shop);
            db.Add(new Server { Name = "a" + attempt });
            db.Enqueue(new Told("job"), new() { Id = id });
            if (attempt == 0)
            {
                await db.SaveAsync(sync: false);
                continue;
            }

            var error = await Assert.ThrowsAsync<DuplicateJobException>(() => db.SaveAsync(sync: false));
            Assert.Contains("look the job up by its id", error.Message, StringComparison.Ordinal);
        }

        Assert.Single(await shop.JobsAsync());
        Assert.Equal(1, await shop.ServersAsync());
    }

#pragma warning disable CA1849 // The synchronous path is what is tested.
    private static int Sync(ShopContext db) => db.SaveChanges(acceptAllChangesOnSuccess: false);
#pragma warning restore CA1849

    private static ShopContext Retrying(Shop shop) =>
        shop.Context(options => options.UseNpgsql(shop.Database.DataSource, npgsql => npgsql.EnableRetryOnFailure(5, TimeSpan.FromMilliseconds(20), null)));

    // A sequence counts through rollbacks; a deferred trigger fails at COMMIT.
    private static Task FailTwiceAsync(Shop shop, bool deferred = false) => shop.Database.ExecuteAsync($"""
        create sequence tries;
        create function fail_twice() returns trigger language plpgsql as
        $$ begin if nextval('tries') < 3 then raise exception 'injected' using errcode = '40001'; end if; return null; end $$;
        create constraint trigger fail_twice after insert on "Servers" {(deferred ? "deferrable initially deferred" : "")} for each row execute function fail_twice();
        """);

    private sealed class FlakyContext(DbContextOptions<FlakyContext> options) : DbContext(options)
    {
        protected override void OnModelCreating(ModelBuilder modelBuilder) =>
            modelBuilder.Entity<NextvalRow>().Property(each => each.Id).HasDefaultValueSql("flaky()");
    }
}
