using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

public sealed class CompleteWithTests
{
    [Theory]
    [InlineData(HistoryPolicy.Keep, true)]
    [InlineData(HistoryPolicy.WithoutArgs, false)]
    [InlineData(HistoryPolicy.None, true)]
    public async Task The_handlers_own_save_completes_the_job_with_the_history_of_its_kind(HistoryPolicy history, bool sync)
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await ClaimAsync(shop, history);
        await using var db = shop.Context();
        db.Add(new Server { Name = "effect" });
        context.CompleteWith(db);
        Assert.False(context.Completion.Confirmed);
        await db.SaveAsync(sync);

        Assert.True(context.Completion.Confirmed);
        Assert.Empty(await shop.JobsAsync());
        Assert.Equal(1, await shop.ServersAsync());
        Assert.Equal(
            history switch
            {
                HistoryPolicy.Keep => ["completed told 1 {\"text\": \"work\"}"],
                HistoryPolicy.WithoutArgs => ["completed told 1 -"],
                _ => [],
            },
            await shop.Database.TextsAsync("select concat_ws(' ', state, kind, attempt, coalesce(args::text, '-')) from outbox.job_history"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_explicit_transaction_confirms_the_completion_by_its_commit_only(bool commit)
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await ClaimAsync(shop);
        await using var db = shop.Context();
        await using (var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            context.CompleteWith(db);
            await db.SaveAsync(sync: false);
            Assert.False(context.Completion.Confirmed);
            if (commit)
                await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal(commit, context.Completion.Confirmed);
        Assert.Equal(commit ? 0 : 1, (await shop.JobsAsync()).Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_lost_lease_throws_and_nothing_of_the_handler_is_written(bool sync)
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await ClaimAsync(shop);
        await shop.Database.ExecuteAsync("update outbox.jobs set lease_token = gen_random_uuid()");
        await using var db = shop.Context();
        db.Add(new Server { Name = "effect" });
        context.CompleteWith(db);
        await Assert.ThrowsAsync<LeaseLostException>(() => db.SaveAsync(sync));

        Assert.False(context.Completion.Confirmed);
        Assert.Single(await shop.JobsAsync());
        Assert.Equal(0, await shop.ServersAsync());
        Assert.Equal(0, await shop.Database.ScalarAsync<long>("select count(*) from outbox.job_history"));
    }

    [Fact]
    public async Task A_savepoint_that_is_rolled_back_takes_the_certainty_with_it_and_the_fence_decides()
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await ClaimAsync(shop);
        await using var db = shop.Context();
        await using (var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await transaction.CreateSavepointAsync("here", TestContext.Current.CancellationToken);
            context.CompleteWith(db);
            await db.SaveAsync(sync: false);
            await transaction.RollbackToSavepointAsync("here", TestContext.Current.CancellationToken);
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        Assert.True(context.Completion.Requested);
        Assert.False(context.Completion.Confirmed);
        Assert.Single(await shop.JobsAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_ambient_transaction_confirms_the_completion_when_it_is_complete(bool complete)
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await ClaimAsync(shop);
        await using var db = shop.Context();
        using (var scope = new System.Transactions.TransactionScope(System.Transactions.TransactionScopeAsyncFlowOption.Enabled))
        {
            context.CompleteWith(db);
            await db.SaveAsync(sync: false);
            Assert.False(context.Completion.Confirmed);
            if (complete)
                scope.Complete();
        }

        Assert.Equal(complete, context.Completion.Confirmed);
        Assert.Equal(complete ? 0 : 1, (await shop.JobsAsync()).Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_schema_that_cannot_complete_yet_says_so_and_nothing_of_the_handler_is_written(bool ef)
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await ClaimAsync(shop);
        await shop.Database.ExecuteAsync("drop procedure outbox.complete_job(uuid, uuid, smallint, jsonb)");
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(async () =>
        {
            if (ef)
            {
                await using var db = shop.Context();
                db.Add(new Server { Name = "effect" });
                context.CompleteWith(db);
                await db.SaveAsync(sync: false);
            }
            else
            {
                await using var connection = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
                await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
                await context.CompleteAsync(transaction, TestContext.Current.CancellationToken);
            }
        });
        Assert.Contains("Run the Migrator", error.Message, StringComparison.Ordinal);
        Assert.Single(await shop.JobsAsync());
        Assert.Equal(0, await shop.ServersAsync());
    }

    // The handler's transaction goes on with the settings it had.
    [Fact]
    public async Task Completion_in_a_transaction_of_npgsql_leaves_its_settings_alone()
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await ClaimAsync(shop);
        await using var connection = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await context.CompleteAsync(transaction, TestContext.Current.CancellationToken);
        await using var settings = new Npgsql.NpgsqlCommand("select string_agg(name, ',') from pg_settings where (name like 'enable_%' or name = 'jit') and setting <> boot_val", connection);
        Assert.Equal(DBNull.Value, await settings.ExecuteScalarAsync(TestContext.Current.CancellationToken));
        await transaction.CommitAsync(TestContext.Current.CancellationToken);
        Assert.Empty(await shop.JobsAsync());
    }

    internal static async Task<JobContext> ClaimAsync(Shop shop, HistoryPolicy history = HistoryPolicy.Keep)
    {
        var options = new OutboxOptions().Handle<Told>((_, _, _) => Task.CompletedTask, kind => kind.History = history);
        var queue = new JobQueue(shop.Database.DataSource, options);
        await queue.EnqueueAsync([NewJob.Create(new Told("work"), null, options)], TestContext.Current.CancellationToken);
        var worker = Guid.NewGuid();
        await using (var connection = await shop.Database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken))
            queue.Register(connection, new(worker, "w", "h", 1, "1", TimeSpan.FromSeconds(60), "{}", ["told"]));
        var job = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 1, worker, ["told"])));
        return new JobContext(job, new ServiceCollection().BuildServiceProvider(), options, CancellationToken.None);
    }
}
