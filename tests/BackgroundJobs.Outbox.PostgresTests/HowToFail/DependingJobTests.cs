using System.Collections.Concurrent;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// Jobs that depend on jobs: the job that ends enqueues the next, or the last one counts the others.
public sealed class DependingJobTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    // What people write: each part, when it is done, looks whether it was the last. Two that end at the same moment each see the other one
    // unfinished, and nobody goes on.
    [Fact]
    public async Task Naive_the_last_part_starts_the_next_step_unless_two_are_the_last()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE parts (id int PRIMARY KEY, done boolean NOT NULL DEFAULT false); INSERT INTO parts VALUES (1), (2)");
        List<long> left = [];
        await using var first = await database.Admin.OpenConnectionAsync(Cancellation);
        await using var second = await database.Admin.OpenConnectionAsync(Cancellation);
        await using var one = await first.BeginTransactionAsync(Cancellation);
        await using var two = await second.BeginTransactionAsync(Cancellation);
        foreach (var (transaction, part) in new[] { (one, 1), (two, 2) })
        {
            await using var end = new Npgsql.NpgsqlCommand($"UPDATE parts SET done = true WHERE id = {part}; SELECT count(*) FROM parts WHERE NOT done", transaction.Connection, transaction);
            left.Add((long)(await end.ExecuteScalarAsync(Cancellation))!);
        }

        await one.CommitAsync(Cancellation);
        await two.CommitAsync(Cancellation);
        Assert.Equal([1L, 1L], left);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM parts WHERE NOT done"));
    }

    // Both end in transactions that overlap, as above, with the handlers' own COMMIT; and the job after them runs, once.
    [Fault("J07", "two parents end in their handlers' transactions, which commit at the same moment", "their child runs, once")]
    [Fact]
    public async Task Ours_a_job_runs_once_when_all_that_it_waits_for_have_ended_at_whatever_moment()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        using var bothAreAboutToCommit = new Barrier(2);
        ConcurrentQueue<int> ran = [];
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (job, context, token) =>
        {
            ran.Enqueue(job.Number);
            if (job.Number == 3)
                return;
            await using var connection = await database.DataSource.OpenConnectionAsync(token);
            await using var transaction = await connection.BeginTransactionAsync(token);
            await Postgres.JobContextPostgresExtensions.CompleteAsync(context, transaction, token);
            await Task.Run(() => bothAreAboutToCommit.SignalAndWait(token), token);
            await transaction.CommitAsync(token);
        }));
        for (var time = 0; time < 20; time++)
        {
            ran.Clear();
            JobWorkflow flow = new();
            var one = flow.Add(new NumberJob(1));
            var two = flow.Add(new NumberJob(2));
            flow.Add(new NumberJob(3), after: [one, two]);
            await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
            await worker.Queue.WaitForWorkflowAsync(flow.Id, TimeSpan.FromSeconds(20), Cancellation);
            Assert.Equal(3, ran.Last());
            Assert.Equal([1, 2, 3], ran.Order());
        }
    }
}
