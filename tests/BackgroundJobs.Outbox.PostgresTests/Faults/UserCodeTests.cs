using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

// What other people's SQL does to our rows while a worker runs.
public sealed class UserCodeTests
{
    [Fault("P15", "a deadlock with somebody who locks the same jobs", "one of them gives way and tries again; nothing is lost")]
    [Fact]
    public async Task P15_a_deadlock_with_somebody_who_locks_the_same_jobs_the_other_way_round_loses_nothing()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        TaskCompletionSource recording = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var worker = await WorkerHost.StartAsync(
            database,
            o =>
            {
                o.FaultPoint = point => point == "finish" ? recording.Task : Task.CompletedTask;
                o.Handle<NumberJob>((_, _, _) => Task.CompletedTask);
            },
            services: services => services.AddLogging(logging => logging.SetMinimumLevel(LogLevel.Debug)));
        List<NewJob> jobs = [.. Enumerable.Range(0, 10).Select(n => NewJob.Create(new NumberJob(n)))];
        await worker.Queue.EnqueueAsync(jobs, TestContext.Current.CancellationToken);

        // All but the first one are recorded together; that waits for one of them, whose owner then wants the rest.
        await Eventually.TrueAsync(() => Ended(worker) == 10, "all have ended");
        await using var rival = await database.HoldAsync($"id = '{jobs[5].Id}'");
        recording.SetResult();
        await Eventually.TrueAsync(
            async () => Yielded(worker) || await database.ScalarAsync<long>("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0") == 1,
            "the record waits");
        try
        {
            await ExecuteAsync(rival, "SELECT FROM outbox.jobs FOR UPDATE");
            await Eventually.TrueAsync(() => Yielded(worker), "the record has given way");
            await rival.DisposeAsync();
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.DeadlockDetected)
        {
            await rival.DisposeAsync();
        }

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed' AND attempt = 1") == 10, "all are recorded");

        static bool Yielded(WorkerHost worker) =>
            worker.Log.Text.Contains("40P01", StringComparison.Ordinal) || worker.Log.Text.Contains("somebody holds its row", StringComparison.Ordinal);

        static int Ended(WorkerHost worker) => worker.Log.Text.Split('\n').Count(line => line.Contains(" number completed", StringComparison.Ordinal));

        static async Task ExecuteAsync(NpgsqlConnection connection, string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection);
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }
    }

    [Fault("P26", "rows that reference a job are inserted while it is claimed, and keep it from being deleted", "neither waits; the others are recorded, and it says why it cannot be")]
    [Fact]
    public async Task P26_a_row_that_references_a_job_does_not_hide_it_from_claims_and_keeps_nobody_elses_end_from_being_recorded()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE children (job_id uuid REFERENCES outbox.jobs (id))");
        var (worker, started, mayEnd) = await StartAsync(database);
        await using var ending = worker;
        List<NewJob> jobs = [.. Enumerable.Range(0, 5).Select(n => NewJob.Create(new NumberJob(n), n == 0 ? new() { Delay = TimeSpan.FromSeconds(1) } : null))];

        // Its lock on the job is open while the job is claimed.
        await using var connection = await database.Admin.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await worker.Queue.EnqueueAsync([jobs[0]], TestContext.Current.CancellationToken);
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await using var insert = new NpgsqlCommand("INSERT INTO children VALUES ($1)", connection, transaction) { Parameters = { new() { Value = jobs[0].Id } } };
            await insert.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            await Eventually.TrueAsync(() => started() == 1, "it is claimed and runs meanwhile");
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        await worker.Queue.EnqueueAsync(jobs[1..], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(() => started() == 5, "the others run too");
        mayEnd();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 4, "the others are recorded");
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<string>($"SELECT errors->-1->>'message' FROM outbox.jobs WHERE id = '{jobs[0].Id}'") is { } message && message.Contains("children", StringComparison.Ordinal),
            "the one that cannot end says why");
        await database.ExecuteAsync("TRUNCATE children");
        await database.ExecuteAsync("UPDATE outbox.jobs SET run_at = now() WHERE lease_token IS NULL");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "it ends when it can");
    }

    [Fault("P32", "rows are edited and deleted by hand while they run", "illegal ones are refused; the worker says what it could not write and goes on")]
    [Fact]
    public async Task P32_rows_that_an_operator_edits_or_deletes_during_the_run_cost_nobody_else_anything()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var (worker, started, mayEnd) = await StartAsync(database);
        await using var ending = worker;
        List<NewJob> jobs = [.. Enumerable.Range(0, 6).Select(n => NewJob.Create(new NumberJob(n)))];
        await worker.Queue.EnqueueAsync(jobs, TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(() => started() == 6, "all run");

        var refused = await Assert.ThrowsAsync<PostgresException>(() => database.ExecuteAsync($"UPDATE outbox.jobs SET lease_token = NULL WHERE id = '{jobs[0].Id}'"));
        Assert.Equal("jobs_claim_is_whole", refused.ConstraintName);
        await database.ExecuteAsync($"DELETE FROM outbox.jobs WHERE id = '{jobs[1].Id}'");
        await database.ExecuteAsync($"UPDATE outbox.jobs SET lease_token = gen_random_uuid() WHERE id = '{jobs[2].Id}'");
        await database.ExecuteAsync($"UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL WHERE id = '{jobs[3].Id}'");
        mayEnd();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 4, "those that were left alone are done, and the one that was freed, again");
        await Eventually.TrueAsync(() => worker.Log.Text.Contains($"{jobs[1].Id}", StringComparison.Ordinal) && worker.Log.Text.Contains($"{jobs[2].Id}", StringComparison.Ordinal), "what is not written is said");

        await worker.EnqueueAsync(new NumberJob(7));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 5, "the worker works");
    }

    [Fault("D15", "a job that enqueues itself twice, without end", "the others run")]
    [Fact]
    public async Task D15_a_job_that_enqueues_itself_twice_without_end_does_not_starve_the_others()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        var ended = false;
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o
                .Handle<OtherJob>(async (job, _, token) =>
                {
                    if (!Volatile.Read(ref ended))
                        await queue.EnqueueAsync([NewJob.Create(job), NewJob.Create(job)], token);
                })
                .Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await worker.EnqueueAsync(new OtherJob("again and again"));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") > 500, "it has multiplied");
        for (var n = 0; n < 50; n++)
            await worker.EnqueueAsync(new NumberJob(n));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE kind = 'number' AND state = 'completed'") == 50, "the others have run", 30);
        Assert.True(await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") > 0);
        Volatile.Write(ref ended, true);
    }

    private static async Task<(WorkerHost Worker, Func<int> Started, Action MayEnd)> StartAsync(ScratchDatabase database)
    {
        var started = 0;
        TaskCompletionSource mayEnd = new(TaskCreationOptions.RunContinuationsAsynchronously);
        var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, _, token) =>
            {
                Interlocked.Increment(ref started);
                await mayEnd.Task.WaitAsync(token);
            }),
            o => o.PollInterval = TimeSpan.FromMilliseconds(500));
        return (worker, () => Volatile.Read(ref started), mayEnd.SetResult);
    }
}
