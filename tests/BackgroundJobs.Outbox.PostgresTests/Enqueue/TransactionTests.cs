using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// A job exists if and only if its transaction commits, in each form of a transaction.
public sealed class TransactionTests
{
    private const string Job = "told {\"text\": \"job\"}";

    [Fault("E21", "the synchronous path", "the same as the asynchronous one (every test of the save runs both)")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E21_The_implicit_transaction_saves_entity_and_job_together(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        db.Add(new Server { Name = "a" });
        db.Enqueue(new Told("job"));
        await db.SaveAsync(sync);

        Assert.Equal([Job], await shop.JobsAsync());
        Assert.Equal(1, await shop.ServersAsync());
    }

    [Fault("E01", "a transaction with a job is rolled back", "no row, no run, no wake-up")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E01_A_job_of_a_transaction_that_is_rolled_back_never_exists(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        await using (var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            db.Add(new Server { Name = "a" });
            db.Enqueue(new Told("job"));
            await db.SaveAsync(sync);
            await transaction.RollbackAsync(TestContext.Current.CancellationToken);
        }

        Assert.Empty(await shop.JobsAsync());
        Assert.Equal(0, await shop.ServersAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Several_saves_in_one_transaction_become_visible_together(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        var server = new Server { Name = "a" };
        db.Add(server);
        db.Enqueue(() => new Told("of " + server.Name));
        await db.SaveAsync(sync);
        db.Enqueue(new Told("job"));
        await db.SaveAsync(sync);
        Assert.Empty(await shop.JobsAsync());
        await transaction.CommitAsync(TestContext.Current.CancellationToken);

        Assert.Equal([Job, "told {\"text\": \"of a\"}"], await shop.JobsAsync());
    }

    // E02: the backend dies as the server sees a killed application; the client's process is not what decides.
    [Fault("E02", "the connection is killed between SaveChanges and Commit", "neither entity nor job")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E02_A_connection_killed_between_SaveChanges_and_Commit_leaves_neither_entity_nor_job(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        db.Add(new Server { Name = "a" });
        db.Enqueue(new Told("job"));
        await db.SaveAsync(sync);
        var backend = ((NpgsqlConnection)db.Database.GetDbConnection()).ProcessID;
        await shop.Database.ScalarAsync<bool>($"select pg_terminate_backend({backend}, 5000)");
        await Assert.ThrowsAnyAsync<Exception>(() => transaction.CommitAsync(TestContext.Current.CancellationToken));

        Assert.Empty(await shop.JobsAsync());
        Assert.Equal(0, await shop.ServersAsync());
    }

    [Fault("E09", "a savepoint is rolled back", "the job before it runs, the one after it never existed")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E09_A_job_enqueued_after_a_savepoint_that_is_rolled_back_never_exists(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        db.Enqueue(new Told("job"));
        await db.SaveAsync(sync);
        await transaction.CreateSavepointAsync("here", TestContext.Current.CancellationToken);
        db.Enqueue(new Told("undone"));
        await db.SaveAsync(sync);
        await transaction.RollbackToSavepointAsync("here", TestContext.Current.CancellationToken);
        await transaction.CommitAsync(TestContext.Current.CancellationToken);

        Assert.Equal([Job], await shop.JobsAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task ExecuteUpdate_and_a_job_share_an_explicit_transaction(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('a', 'Ulm')");
        foreach (var commit in new[] { false, true })
        {
            await using var db = shop.Context();
            await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
            await db.Servers.ExecuteUpdateAsync(set => set.SetProperty(each => each.Note, "noted"), TestContext.Current.CancellationToken);
            db.Enqueue(new Told("job"));
            await db.SaveAsync(sync);
            if (commit)
                await transaction.CommitAsync(TestContext.Current.CancellationToken);
            else
                await transaction.RollbackAsync(TestContext.Current.CancellationToken);

            Assert.Equal(commit ? "noted" : null, await shop.Database.ScalarAsync<string?>("select \"Note\" from \"Servers\""));
            Assert.Equal(commit ? [Job] : [], await shop.JobsAsync());
        }
    }
}
