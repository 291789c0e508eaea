using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// The data was rolled back, and the job ran all the same.
public sealed class RolledBackDataTests
{
    [Fact]
    public async Task Naive_a_queue_beside_the_transaction_keeps_the_job_of_data_that_was_rolled_back()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using var db = ServerContext.Open(database);
        await using (var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            var server = new Server { Name = "a" };
            db.Add(server);
            await db.SaveChangesAsync(TestContext.Current.CancellationToken);

            // Another connection, as a broker is.
            await new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new BootServer(server.Id))], TestContext.Current.CancellationToken);
            await transaction.RollbackAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal(0L, await database.ScalarAsync<long>("""SELECT count(*) FROM "Servers" """));
        Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fact]
    public async Task Ours_of_a_thousand_transactions_of_which_a_third_rolls_back_exactly_the_others_have_their_job()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        var log = new BootLog();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<BootServer, BootServerHandler>(),
            services: s =>
            {
                s.AddSingleton(log);
                ServerContext.AddTo(s, database);
            });
        var committed = 0;
        await Parallel.ForEachAsync(Enumerable.Range(0, 1000), new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (n, token) =>
        {
            await using var db = ServerContext.Open(database);
            await using var transaction = await db.Database.BeginTransactionAsync(token);
            var server = new Server { Name = $"{n}" };
            db.Add(server);
            db.Enqueue(() => new BootServer(server.Id));
            await db.SaveChangesAsync(token);
            if (n % 3 == 0)
            {
                await transaction.RollbackAsync(token);
                return;
            }

            await transaction.CommitAsync(token);
            Interlocked.Increment(ref committed);
        });

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all are done", 60);
        Assert.Equal(666, committed);
        Assert.Empty(log.AllNotFound);
        Assert.Equal("666|1|1", await database.ScalarAsync<string>("""SELECT concat_ws('|', count(*), min("Boots"), max("Boots")) FROM "Servers" """));
    }
}
