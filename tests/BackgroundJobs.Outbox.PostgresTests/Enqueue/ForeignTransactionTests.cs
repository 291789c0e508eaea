using System.Transactions;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// Transactions that EF did not begin.
public sealed class ForeignTransactionTests
{
    [Fault("E16", "TransactionScope, completed and not", "the job follows the scope")]
    [Fault("E17", "a second connection in the same scope", "ours does not enlist")]
    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task E16_E17_A_job_follows_the_ambient_scope_and_the_wake_up_does_not_enlist_in_it(bool sync, bool complete)
    {
        await using var shop = await Shop.OpenAsync();
        using (var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
        {
            await using var db = shop.Context();
            var server = new Server { Name = "a" };
            db.Add(server);
            db.Enqueue(() => new BootServer(server.Id));
            await db.SaveAsync(sync);
            db.Enqueue(new Told("second"));
            await db.SaveAsync(sync);
            if (complete)
                scope.Complete();
        }

        // A second enlisted connection would have made the scope a prepared transaction, which the server refuses (55000).
        Assert.Equal(complete ? 2 : 0, (await shop.JobsAsync()).Count);
        Assert.Equal(complete ? 1 : 0, await shop.ServersAsync());
    }

    [Fault("E18", "UseTransaction, committed outside EF", "the job is there and is found")]
    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task E18_A_job_follows_a_transaction_that_is_committed_outside_of_EF(bool sync, bool commit)
    {
        await using var shop = await Shop.OpenAsync();
        await using var connection = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await using var db = shop.Context(options => options.UseNpgsql(connection));
        await db.Database.UseTransactionAsync(transaction, TestContext.Current.CancellationToken);
        var server = new Server { Name = "a" };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id));
        await db.SaveAsync(sync);
        if (commit)
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        else
            await transaction.RollbackAsync(TestContext.Current.CancellationToken);

        Assert.Equal(commit ? [$"boot_server {{\"serverId\": {server.Id}}}"] : [], await shop.JobsAsync());
    }
}
