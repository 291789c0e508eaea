using System.Data;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// Other sessions in the way: the application's own limits bound the wait, and errors surface as EF shows them.
public sealed class ContentionTests
{
    [Fault("E20", "ExecuteUpdate and an enqueue without a transaction", "as documented: the job exists with its save only")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E20_ExecuteUpdate_without_a_transaction_takes_effect_at_once_and_the_job_exists_with_its_save_only(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('a', 'Ulm')");
        await using var db = shop.Context();
        await db.Servers.ExecuteUpdateAsync(set => set.SetProperty(each => each.Note, "noted"), TestContext.Current.CancellationToken);
        db.Enqueue(new Told("job"));
        Assert.Equal("noted", await shop.Database.ScalarAsync<string>("select \"Note\" from \"Servers\""));
        Assert.Empty(await shop.JobsAsync());
        await db.SaveAsync(sync);
        Assert.Single(await shop.JobsAsync());
    }

    [Fault("E25", "an id that another open transaction holds", "waits no longer than lock_timeout")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E25_An_id_that_an_open_transaction_holds_is_waited_for_no_longer_than_lock_timeout(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        var id = Guid.NewGuid();
        await using var first = shop.Context();
        await using var transaction = await first.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        first.Enqueue(new Told("first"), new() { Id = id });
        await first.SaveAsync(sync);
        await RefusedAsync(shop, db => db.Enqueue(new Told("second"), new() { Id = id }), sync);
        await transaction.CommitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(["told {\"text\": \"first\"}"], await shop.JobsAsync());
    }

    [Fault("E28", "DDL has locked the jobs table", "the enqueue fails in lock_timeout")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E28_A_jobs_table_that_DDL_has_locked_is_waited_for_no_longer_than_lock_timeout(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var connection = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await using (var command = new NpgsqlCommand("lock table outbox.jobs in access exclusive mode", connection, transaction))
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        await RefusedAsync(shop, db => db.Enqueue(new Told("job")), sync);
        await transaction.RollbackAsync(TestContext.Current.CancellationToken);

        Assert.Empty(await shop.JobsAsync());
    }

    [Fault("E27", "the caller runs SERIALIZABLE or REPEATABLE READ", "40001 surfaces as EF shows it, and no job is left")]
    [Theory]
    [InlineData(IsolationLevel.RepeatableRead, true)]
    [InlineData(IsolationLevel.RepeatableRead, false)]
    [InlineData(IsolationLevel.Serializable, true)]
    [InlineData(IsolationLevel.Serializable, false)]
    public async Task E27_A_serialization_failure_of_the_caller_surfaces_as_EF_shows_it_and_leaves_no_job(IsolationLevel level, bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('a', 'Ulm')");
        await using var db = shop.Context();
        await using (await db.Database.BeginTransactionAsync(level, TestContext.Current.CancellationToken))
        {
            var server = await db.Servers.SingleAsync(TestContext.Current.CancellationToken);
            await shop.Database.ExecuteAsync("update \"Servers\" set \"Address_City\" = 'Bonn'");
            server.Name = "b";
            db.Enqueue(new Told("job"));
            var error = await Assert.ThrowsAnyAsync<Exception>(() => db.SaveAsync(sync));
            Assert.Equal(PostgresErrorCodes.SerializationFailure, (error.GetBaseException() as PostgresException)?.SqlState);
        }

        Assert.Empty(await shop.JobsAsync());
    }

    private static async Task RefusedAsync(Shop shop, Action<ShopContext> enqueue, bool sync)
    {
        await using var db = shop.Context();
        await db.Database.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await db.Database.ExecuteSqlAsync($"set lock_timeout = '200ms'", TestContext.Current.CancellationToken);
        db.Add(new Server { Name = "b" });
        enqueue(db);
        // Npgsql counts it as transient, so EF wraps it with advice to retry.
        var error = await Assert.ThrowsAnyAsync<Exception>(() => db.SaveAsync(sync));
        Assert.Equal(PostgresErrorCodes.LockNotAvailable, (error.GetBaseException() as PostgresException)?.SqlState);
        Assert.Equal(0, await shop.ServersAsync());
    }
}
