using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Workflows;

public sealed class RetriedParentTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    // The settlement saw the parent dead, found it neither there nor in the history when it read how it had ended, and completed when it decided. It is
    // held up here at each of these moments, the last time by a lock put into it, for it gives no other handle there.
    [Fact]
    public async Task A_parent_that_is_retried_and_completes_while_its_death_is_settled_does_not_cancel_its_child()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var definition = await database.ScalarAsync<string>("SELECT pg_get_functiondef('outbox.settle_jobs(uuid[])'::regprocedure)");
        const string Decision = "    WITH decided AS (";
        Assert.Contains(Decision, definition, StringComparison.Ordinal);
        await database.ExecuteAsync(definition!
            .Replace(Decision, $"    PERFORM pg_advisory_xact_lock(42);\n{Decision}", StringComparison.Ordinal)
            .Replace("lock_timeout TO '200ms'", "lock_timeout TO '1min'", StringComparison.Ordinal));

        JobQueue queue = new(database.DataSource);
        JobWorkflow flow = new();
        var parent = flow.Add(new NumberJob(1));
        var child = flow.Add(new NumberJob(2), after: parent);
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        var worker = await Workers.RegisterAsync(database);
        await EndAsync(JobState.Dead);

        await using var operations = await database.Admin.OpenConnectionAsync(Cancellation);
        await using var noting = await operations.BeginTransactionAsync(Cancellation);
        await ExecuteAsync(operations, "LOCK TABLE outbox.operations IN EXCLUSIVE MODE");
        await using var decision = await database.Admin.OpenConnectionAsync(Cancellation);
        await ExecuteAsync(decision, "SELECT pg_advisory_lock(42)");

        var retry = new JobAdmin(database.Operator).RetryAsync(parent.Id, Cancellation);
        await WaitingAsync("relation", 1);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        var settlement = queue.SettleAsync(connection, null, Cancellation);
        await WaitingAsync("transactionid", 1);
        await noting.CommitAsync(Cancellation);
        Assert.True(await retry);
        await WaitingAsync("advisory", 1);
        await EndAsync(JobState.Completed);
        await ExecuteAsync(decision, "SELECT pg_advisory_unlock(42)");
        await settlement;
        await using (var again = await database.DataSource.OpenConnectionAsync(Cancellation))
            await queue.SettleAsync(again, null, Cancellation);

        Assert.Equal(child.Id, Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]))).Id);

        async Task EndAsync(JobState state)
        {
            var job = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));
            Assert.Equal(parent.Id, job.Id);
            await using var recording = await database.DataSource.OpenConnectionAsync(Cancellation);
            Assert.Empty(await queue.FinishAsync(recording, [new FinishedJob(job, state, HistoryPolicy.Keep, null)], prepare: false));
        }

        Task WaitingAsync(string what, int sessions) => Eventually.TrueAsync(
            async () => await database.ScalarAsync<long>(
                $"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = '{what}'") == sessions,
            $"one waits for a lock of {what}");
    }

    // The retry finds the child neither in the history, where it is not yet seen, nor blocked, where it is not any more.
    [Fact]
    public async Task A_parent_that_is_retried_while_its_death_is_settled_brings_back_what_that_cancels()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        JobWorkflow flow = new();
        var parent = flow.Add(new NumberJob(1));
        var child = flow.Add(new NumberJob(2), after: parent);
        flow.Add(new NumberJob(3), after: child);
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        var job = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, await Workers.RegisterAsync(database), ["number"])));
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(job, JobState.Dead, HistoryPolicy.Keep, null)], prepare: false));

        Task<bool> retry;
        await using (var settlement = await connection.BeginTransactionAsync(Cancellation))
        {
            await ExecuteAsync(connection, "SELECT outbox.settle_jobs(NULL)");
            retry = new JobAdmin(database.Operator).RetryAsync(parent.Id, Cancellation);
            await Eventually.TrueAsync(
                async () => await database.ScalarAsync<long>("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1, "the retry waits");
            await settlement.CommitAsync(Cancellation);
        }

        Assert.True(await retry);
        while ((await queue.SettleAsync(connection, null, Cancellation)).More)
        {
        }

        Assert.Equal(["waiting", "blocked", "blocked"], await database.TextsAsync("SELECT state FROM outbox.all_jobs ORDER BY args::text"));
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(Cancellation);
    }
}
