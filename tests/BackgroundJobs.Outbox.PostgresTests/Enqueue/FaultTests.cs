using System.Data.Common;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Testing;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

public sealed class FaultTests
{
    [Fault("E24", "the connection is cut in the middle of 10,000 jobs", "all or none")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E24_Ten_thousand_jobs_whose_connection_is_cut_half_way_leave_none(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("""
            CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.args->>'text' = '5000' THEN
                    PERFORM pg_terminate_backend(pg_backend_pid());
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER cut BEFORE INSERT ON outbox.jobs FOR EACH ROW EXECUTE FUNCTION cut();
            """);
        await using var db = shop.Context();
        db.Add(new Server { Name = "a" });
        for (var n = 0; n < 10_000; n++)
            db.Enqueue(new Told($"{n}"));
        await Assert.ThrowsAnyAsync<Exception>(() => db.SaveAsync(sync));

        Assert.Empty(await shop.JobsAsync());
        Assert.Equal(0, await shop.ServersAsync());
    }

    [Fault("E26", "the same ids in opposite order in two saves", "no deadlock")]
    [Fact]
    public async Task E26_the_same_ids_in_opposite_order_in_two_saves_do_not_deadlock()
    {
        await using var shop = await Shop.OpenAsync();
        var (first, second) = (Guid.NewGuid(), Guid.NewGuid());
        for (var round = 0; round < 20; round++)
        {
            var results = await Task.WhenAll(SaveAsync(shop, first, second), SaveAsync(shop, second, first));

            // One of them; EF Core sends rows in the order of their keys, so the other one waits, and then hears that they are there.
            Assert.Single(results, error => error is null);
            Assert.Single(results, error => error is DuplicateJobException);
            await shop.Database.ExecuteAsync("DELETE FROM outbox.jobs");
        }
    }

    // As a standby does.
    [Fault("E31", "an enqueue on a server that only reads", "one clear 25006, not tried again")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E31_A_server_that_takes_no_writes_is_one_clear_failure_that_is_not_tried_again(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync($"ALTER DATABASE \"{new NpgsqlConnectionStringBuilder(shop.Database.ConnectionString).Database}\" SET default_transaction_read_only = on");
        NpgsqlConnection.ClearAllPools();
        shop.Database.DataSource.Clear();
        var failures = 0;
        await using var db = shop.Context(options => options
            .UseNpgsql(shop.Database.DataSource, npgsql => npgsql.EnableRetryOnFailure(5))
            .AddInterceptors(new CountingFailures(() => failures++)));
        db.Enqueue(new Told("a"));
        var error = await Assert.ThrowsAnyAsync<Exception>(() => db.SaveAsync(sync));
        Assert.Equal("25006", (error as PostgresException ?? error.InnerException as PostgresException)?.SqlState);
        Assert.Equal(1, failures);
        Assert.Equal(0L, await shop.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fault("E29", "the notification queue is full", "the save commits")]
    [Fault("P23", "a listener never reads, and holds up the notification queue", "saves commit and jobs are found")]
    [Fact]
    public async Task E29_a_save_commits_although_the_notification_queue_is_full()
    {
        var running = await TestServer.GetAsync();
        Assert.SkipWhen(running.Version.Major < 17, $"PostgreSQL {running.Version} has no setting for a small notification queue (max_notify_queue_pages, 17).");
        Assert.SkipWhen(running.Way == PostgresWay.Given, "The given server's notification queue is not ours to fill.");
        var options = new PostgresServerOptions();
        options.Settings["max_notify_queue_pages"] = "64";
        await using var server = await PostgresServer.StartAsync(options, TestContext.Current.CancellationToken);
        var connectionString = await server.CreateDatabaseAsync(cancellationToken: TestContext.Current.CancellationToken);
        await Migrator.MigrateAsync(connectionString, cancellationToken: TestContext.Current.CancellationToken);

        // Somebody listens and never comes round to hearing.
        await using var deaf = new NpgsqlConnection(connectionString);
        await deaf.OpenAsync(TestContext.Current.CancellationToken);
        foreach (var sql in new[] { "LISTEN flood", "BEGIN", "SELECT 1" })
        {
            await using var step = new NpgsqlCommand(sql, deaf);
            await step.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        await using var source = NpgsqlDataSource.Create(connectionString);
        var error = await Assert.ThrowsAsync<PostgresException>(async () =>
        {
            for (var n = 0; n < 1000; n++)
            {
                await using var flood = source.CreateCommand($"SELECT pg_notify('flood', '{n}' || repeat('x', 7000))");
                await flood.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            }
        });
        Assert.Contains("NOTIFY queue", error.MessageText, StringComparison.Ordinal);

        await using var db = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseNpgsql(connectionString).UseOutbox().Options);
        db.Enqueue(new Told("job"));
        await db.SaveChangesAsync(TestContext.Current.CancellationToken);
        await using var count = source.CreateCommand("SELECT count(*) FROM outbox.jobs");
        Assert.Equal(1L, await count.ExecuteScalarAsync(TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E15_E21_explicit_transactions_end_alike_on_the_synchronous_path(bool commit)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        List<JobHint> hints = [];
        JobSignal.For(db.Database.GetDbConnection(), "outbox").Raised += hints.Add;
#pragma warning disable CA1849, xUnit1051 // The synchronous path is what is tested.
        using (var transaction = db.Database.BeginTransaction())
        {
            db.Enqueue(new Told("first"));
            db.SaveChanges();
            transaction.CreateSavepoint("here");
            db.Enqueue(new Told("second"));
            db.SaveChanges();
            transaction.RollbackToSavepoint("here");
            if (commit)
                transaction.Commit();
            else
                transaction.Rollback();
        }

        Assert.Equal(commit ? ["told {\"text\": \"first\"}"] : [], await shop.JobsAsync());
        Assert.Equal(commit, hints.Count > 0);

        db.Database.AutoSavepointsEnabled = false;
        using (var transaction = db.Database.BeginTransaction())
        {
            db.Enqueue(new Told("lost"));
            db.SaveChanges();
            Assert.Throws<PostgresException>(() => db.Database.ExecuteSqlRaw("SELECT 1 / 0"));
            Assert.Contains("cannot be committed", Assert.Throws<OutboxException>(transaction.Commit).Message, StringComparison.Ordinal);
        }
#pragma warning restore CA1849, xUnit1051
    }

    private static async Task<Exception?> SaveAsync(Shop shop, params Guid[] ids)
    {
        await using var db = shop.Context();
        foreach (var id in ids)
            db.Enqueue(new Told("job"), new() { Id = id });
        try
        {
            await db.SaveChangesAsync(TestContext.Current.CancellationToken);
            return null;
        }
        catch (OutboxException e)
        {
            return e;
        }
        catch (DbUpdateException e)
        {
            return e.GetBaseException();
        }
    }

    private sealed class CountingFailures(Action failed) : DbCommandInterceptor
    {
        public override void CommandFailed(DbCommand command, CommandErrorEventData eventData) => failed();

        public override Task CommandFailedAsync(DbCommand command, CommandErrorEventData eventData, CancellationToken cancellationToken = default)
        {
            failed();
            return Task.CompletedTask;
        }
    }
}
