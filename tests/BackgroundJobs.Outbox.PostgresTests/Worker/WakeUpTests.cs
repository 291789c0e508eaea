using System.Collections.Concurrent;
using System.Diagnostics;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Worker;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class WakeUpTests
{
    [Fact]
    public async Task A_worker_of_the_same_process_is_woken_without_waiting_for_its_poll()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => (o.PollInterval, o.Listen) = (TimeSpan.FromMinutes(10), false));
        await RunsAsync(database, () => worker.EnqueueAsync(new NumberJob(1)));
    }

    [Fact]
    public async Task A_worker_of_another_process_is_woken_by_a_notification()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => o.PollInterval = TimeSpan.FromMinutes(10));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'") == 1, "it listens");
        await RunsAsync(database, async () =>
        {
            // As another process would: this one's signal knows nothing of it.
            await database.ExecuteAsync("SELECT outbox.enqueue('number', '{\"number\": 1}')");
            await database.ExecuteAsync($"SELECT pg_notify('outbox_jobs', '{new JobHint("default", DateTime.UnixEpoch).ToPayload()}')");
        });
    }

    [Fact]
    public async Task Without_any_hint_the_poll_finds_it()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => (o.PollInterval, o.Listen) = (TimeSpan.FromMilliseconds(500), false));
        await RunsAsync(database, () => database.ExecuteAsync("SELECT outbox.enqueue('number', '{\"number\": 1}')"));
    }

    [Fault("P25", "a transaction that began earlier commits later", "found: nothing takes an id for progress")]
    [Fact]
    public async Task A_transaction_that_commits_late_lies_behind_the_cursor_and_is_found()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentBag<int> ran = [];
        await using var worker = await StartAsync(database, o => (o.PollInterval, o.Listen) = (TimeSpan.FromMilliseconds(500), false), ran);
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await worker.Queue.EnqueueAsync(transaction, new NumberJob(-1), cancellationToken: TestContext.Current.CancellationToken);
            for (var n = 0; n < 50; n++)
                await worker.EnqueueAsync(new NumberJob(n));
            await Eventually.TrueAsync(() => ran.Count == 50, "what was committed in between runs");
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        await Eventually.TrueAsync(() => ran.Contains(-1), "the late one runs");
    }

    [Fact]
    public async Task A_delayed_job_runs_when_it_is_due_and_not_before_without_a_poll()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database, o => (o.PollInterval, o.Listen) = (TimeSpan.FromMinutes(10), false));
        await RunsAsync(database, () => worker.EnqueueAsync(new NumberJob(1), new() { Delay = TimeSpan.FromSeconds(1) }));
        var late = await database.ScalarAsync<double>("SELECT extract(epoch FROM claimed_at - run_at)::float8 FROM outbox.job_history");
        Assert.InRange(late, 0, 5);
    }

    [Fault("P12", "PgBouncer in transaction mode", "everything works by polling")]
    [Fact]
    public async Task Through_a_pooler_in_transaction_mode_everything_works_by_polling()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var bouncer = await PgBouncer.StartAsync(database.ConnectionString);
        ConcurrentBag<int> ran = [];
        await using var worker = await StartAsync(
            database, o => (o.ConnectionString, o.PollInterval) = (bouncer.ConnectionString, TimeSpan.FromMilliseconds(300)), ran);
        await database.ExecuteAsync("SELECT outbox.enqueue('number', jsonb_build_object('number', n)) FROM generate_series(1, 500) AS n");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 500, "all run");
        Assert.Equal(500, ran.Distinct().Count());
        Assert.Contains("polling", worker.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_idle_worker_sends_at_most_one_statement_a_second()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await StartAsync(database);
        await worker.EnqueueAsync(new NumberJob(1));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 1, "it has worked");

        // Npgsql tells of each command it sends; those of this database are the worker's.
        var sent = 0;
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "Npgsql",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = command =>
            {
                if (command.TagObjects.Any(tag => Equals(tag.Value, database.Name)))
                    Interlocked.Increment(ref sent);
            },
        };
        ActivitySource.AddActivityListener(listener);
        await Task.Delay(TimeSpan.FromSeconds(10), TimeProvider.System, TestContext.Current.CancellationToken);
        TestContext.Current.TestOutputHelper?.WriteLine($"{sent} statements in 10 s.");
        Assert.InRange(sent, 3, 10);
    }

    private static Task<WorkerHost> StartAsync(ScratchDatabase database, Action<OutboxWorkerOptions>? worker = null, ConcurrentBag<int>? ran = null) =>
        WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((job, _, _) =>
            {
                ran?.Add(job.Number);
                return Task.CompletedTask;
            }),
            worker);

    private static async Task RunsAsync(ScratchDatabase database, Func<Task> enqueue)
    {
        // The worker's first poll is over when its lease is older than that.
        await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System, TestContext.Current.CancellationToken);
        await enqueue();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 1, "the job runs");
    }
}
