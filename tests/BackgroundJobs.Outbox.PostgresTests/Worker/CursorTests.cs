using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class CursorTests
{
    [Fact]
    public async Task A_killed_job_goes_on_from_a_cursor_that_is_about_a_second_old()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        await using var victim = await WorkerProcess.StartAsync(database, lease: 3);
        await new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new SteppingJob(60, 100))], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<int?>("SELECT (saved_cursor)::integer FROM outbox.jobs") >= 15, "a cursor is saved while it runs");
        victim.Kill();
        await victim.ExitAsync();

        await using var other = await WorkerProcess.StartAsync(database, lease: 3);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 1, "it ends", 40);
        var resumed = await database.ScalarAsync<int>("SELECT number FROM runs WHERE what = 'start' AND attempt = 2");
        Assert.InRange(resumed, 15, 60);
        Assert.Equal(60L, await database.ScalarAsync<long>("SELECT count(DISTINCT number) FROM runs WHERE what = 'step'"));
    }

    [Fact]
    public async Task A_failed_and_a_dead_job_keep_their_cursor_over_an_operators_retry()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        List<int> starts = [];
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            (_, context, _) =>
            {
                starts.Add(context.Cursor<int>());
                context.SafeExitPoint(context.Cursor<int>() + 10);
                return context.Attempt < 3 ? throw new InvalidOperationException("no") : Task.CompletedTask;
            },
            kind => kind.Retry = RetryPolicy.Delays(TimeSpan.Zero)));
        var id = await worker.EnqueueAsync(new NumberJob(1));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'") == "dead", "it is dead");
        await new JobAdmin(database.Operator).RetryAsync(id, cancellationToken: TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'") == "completed", "it ends");
        Assert.Equal([0, 10, 20], starts);
    }
}
