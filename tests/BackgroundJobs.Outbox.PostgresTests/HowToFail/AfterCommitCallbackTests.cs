using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// The job was enqueued in a callback after the commit, and the process ended between the two.
public sealed class AfterCommitCallbackTests
{
    [Fact]
    public async Task Naive_what_happens_between_the_commit_and_the_callback_loses_the_job()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using var db = ServerContext.Open(database);
        var server = new Server { Name = "a" };
        db.SavedChanges += (_, _) =>
        {
            // The commit is done; here the process is killed, the network ends, the broker is down.
            throw new IOException("gone");
#pragma warning disable CS0162 // That is the point: it is never reached.
            new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new BootServer(server.Id))]).Wait();
#pragma warning restore CS0162
        };
        db.Add(server);
        await Assert.ThrowsAsync<IOException>(() => db.SaveChangesAsync(TestContext.Current.CancellationToken));

        Assert.Equal(1L, await database.ScalarAsync<long>("""SELECT count(*) FROM "Servers" """));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fact]
    public async Task Ours_the_same_fault_finds_the_job_in_the_database_with_its_data()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using var db = ServerContext.Open(database);
        var server = new Server { Name = "a" };
        db.SavedChanges += (_, _) => throw new IOException("gone");
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id));
        await Assert.ThrowsAsync<IOException>(() => db.SaveChangesAsync(TestContext.Current.CancellationToken));

        Assert.Equal("1|1", await BothAsync(database));
    }

    [Fact]
    public async Task Ours_a_connection_that_is_cut_before_the_commit_leaves_neither()
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using var db = ServerContext.Open(database);
        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        var server = new Server { Name = "a" };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id));
        await db.SaveChangesAsync(TestContext.Current.CancellationToken);
        await database.ExecuteAsync($"SELECT pg_terminate_backend({((NpgsqlConnection)db.Database.GetDbConnection()).ProcessID})");
        await Assert.ThrowsAnyAsync<Exception>(() => transaction.CommitAsync(TestContext.Current.CancellationToken));

        Assert.Equal("0|0", await BothAsync(database));
    }

    private static Task<string> BothAsync(ScratchDatabase database) =>
        database.ScalarAsync<string>("""SELECT concat_ws('|', (SELECT count(*) FROM "Servers"), (SELECT count(*) FROM outbox.jobs))""");
}
