using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// The job ran before its row was committed.
public sealed class RecordNotFoundTests
{
    [Fact]
    public async Task Naive_a_job_that_is_started_before_the_commit_does_not_find_its_record()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using var db = ServerContext.Open(database);
        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        var server = new Server { Name = "a" };
        db.Add(server);
        await db.SaveChangesAsync(TestContext.Current.CancellationToken);

        // A fast worker, elsewhere.
        var found = await Task.Run(async () =>
        {
            await using var elsewhere = ServerContext.Open(database);
            return await elsewhere.Servers.AnyAsync(each => each.Id == server.Id);
        });
        await transaction.CommitAsync(TestContext.Current.CancellationToken);
        Assert.False(found);
    }

    [Fact]
    public async Task Ours_no_job_runs_before_its_record_can_be_seen_however_long_the_transaction_stays_open()
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

        for (var round = 0; round < 20; round++)
        {
            await using var db = ServerContext.Open(database);
            await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
            for (var n = 0; n < 5; n++)
            {
                var server = new Server { Name = $"{round}-{n}" };
                db.Add(server);
                db.Enqueue(() => new BootServer(server.Id));
                await db.SaveChangesAsync(TestContext.Current.CancellationToken);

                // The worker is told that there is something, and looks, while the transaction is open.
                await worker.Queue.WakeAsync("default", cancellationToken: TestContext.Current.CancellationToken);
            }

            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        await Eventually.TrueAsync(() => log.AllBooted.Count >= 100, "all are booted");
        Assert.Empty(log.AllNotFound);
        Assert.Equal("100|1|1", await database.ScalarAsync<string>("""SELECT concat_ws('|', count(*), min("Boots"), max("Boots")) FROM "Servers" """));
    }
}
