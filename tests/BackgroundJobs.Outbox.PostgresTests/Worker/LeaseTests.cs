using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class LeaseTests
{
    [Fault("W03", "a zombie writes while another worker runs the job", "0 rows: the lease token differs, though the state is equal")]
    [Fact]
    public async Task Every_write_under_a_lease_that_was_lost_changes_nothing()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var (queue, old) = await ClaimedAsync(database, TimeSpan.FromMilliseconds(1));
        await queue.RescueAsync(5, TestContext.Current.CancellationToken);
        var now = await ClaimAsync(database, queue, await RegisterAsync(database, queue, TimeSpan.FromMinutes(1)));

        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        Assert.Equal([old.Id], await queue.FinishAsync(connection, [new FinishedJob(old, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false));
        Assert.Empty(await queue.RescheduleAsync(connection, [new RescheduledJob(old, null, true, JobError.Of("x", "y"), "1")]));
        await queue.SaveCursorsAsync(connection, [(old, "1", null)]);

        Assert.Equal(2, now.Attempt);
        Assert.Equal($"{now.LeaseToken}|0|t", await database.ScalarAsync<string>("SELECT concat_ws('|', lease_token, failures, saved_cursor IS NULL) FROM outbox.jobs"));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history"));
    }

    [Fault("W03", "a zombie completes in its own transaction", "the transaction rolls back")]
    [Fact]
    public async Task A_zombies_own_transaction_rolls_back()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE effects (n integer)");
        var (queue, old) = await ClaimedAsync(database, TimeSpan.FromMilliseconds(1));
        await queue.RescueAsync(5, TestContext.Current.CancellationToken);
        var context = new JobContext(old, EmptyServices.Instance, queue.Options, CancellationToken.None);

        await using (var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken))
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await using var effect = new NpgsqlCommand("INSERT INTO effects VALUES (1)", connection, transaction);
            await effect.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            await Assert.ThrowsAsync<LeaseLostException>(() => context.CompleteAsync(transaction, TestContext.Current.CancellationToken));
        }

        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM effects"));
        Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fault("W05", "a late heartbeat of a worker that was declared dead", "it does not bring the lease back")]
    [Fact]
    public async Task A_worker_that_was_declared_dead_claims_nothing_and_no_heartbeat_brings_it_back()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var worker = await RegisterAsync(database, queue, TimeSpan.FromMilliseconds(1));
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        await database.ExecuteAsync("UPDATE outbox.workers SET dead_at = now()");
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        Assert.Null(queue.Beat(connection, worker, running: 1, stuck: 0, stopping: false, ["default"]));
        Assert.Empty(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));
    }

    [Fault("W21", "a worker dies under a job that is suspected of killing workers, and under others", "the suspect is charged, the others are not")]
    [Theory]
    [InlineData(3, "0,0,4")]
    [InlineData(1, "1,1,2")]
    public async Task A_crash_is_charged_to_suspects_alone_where_there_is_one(int crashes, string after)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var worker = await RegisterAsync(database, queue, TimeSpan.FromMilliseconds(1));
        await queue.EnqueueAsync([.. Enumerable.Range(0, 3).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
        Assert.Equal(3, (await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]))).Count);
        await database.ExecuteAsync($"UPDATE outbox.jobs SET crashes = {crashes} WHERE args->>'number' = '1'");
        await queue.RescueAsync(10, TestContext.Current.CancellationToken);
        Assert.Equal(after, await database.ScalarAsync<string>("SELECT string_agg(crashes::text, ',' ORDER BY crashes) FROM outbox.jobs"));
    }

    [Fact]
    public async Task A_claim_that_is_under_way_holds_off_the_rescue_of_its_worker()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var worker = await RegisterAsync(database, queue, TimeSpan.FromMilliseconds(1));
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            Assert.Single((await queue.ClaimAsync(connection, [ClaimRequest.Everything("default", 10, worker, ["number"])], prepare: false))[0].Jobs);
            Assert.Empty(await queue.RescueAsync(5, TestContext.Current.CancellationToken));
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        var released = Assert.Single(await queue.RescueAsync(5, TestContext.Current.CancellationToken));
        Assert.Equal(1, released.Jobs);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers"));
    }

    [Fault("W16", "among the jobs to rescue is one that cannot be", "the others are not held up")]
    [Fact]
    public async Task A_job_that_a_frozen_handlers_open_transaction_has_completed_does_not_hold_up_the_rescue_of_the_others()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var worker = await RegisterAsync(database, queue, TimeSpan.FromMilliseconds(1));
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1)), NewJob.Create(new NumberJob(2))], TestContext.Current.CancellationToken);
        var jobs = await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]));
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await new JobContext(jobs[0], EmptyServices.Instance, queue.Options, CancellationToken.None).CompleteAsync(transaction, TestContext.Current.CancellationToken);
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10), TimeProvider.System);
            Assert.Equal(1, Assert.Single(await queue.RescueAsync(5, limit.Token)).Jobs);
            Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers"));
        }

        // It was rolled back after all: the next rescue finds the job by its worker, which was kept for that.
        Assert.Equal(1, Assert.Single(await queue.RescueAsync(5, TestContext.Current.CancellationToken)).Jobs);
        Assert.Equal("2|0", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', (SELECT count(*) FROM outbox.jobs WHERE lease_token IS NULL), (SELECT count(*) FROM outbox.workers))"));
    }

    // W04: frozen between its completion and its COMMIT.
    [Fault("W04", "frozen between completion and COMMIT, holding the row lock", "free within idle_in_transaction_session_timeout")]
    [Fact]
    public async Task A_handler_that_freezes_before_its_commit_holds_its_job_until_the_server_ends_its_session()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var (queue, job) = await ClaimedAsync(database, TimeSpan.FromMilliseconds(1));
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var impatient = new NpgsqlCommand("SET idle_in_transaction_session_timeout = '400ms'", connection))
            await impatient.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await new JobContext(job, EmptyServices.Instance, queue.Options, CancellationToken.None).CompleteAsync(transaction, TestContext.Current.CancellationToken);
        Assert.Empty(await queue.RescueAsync(5, TestContext.Current.CancellationToken));
        await Eventually.TrueAsync(async () => (await queue.RescueAsync(5, TestContext.Current.CancellationToken)).Count == 1, "the job is rescued");
        await Assert.ThrowsAnyAsync<NpgsqlException>(() => transaction.CommitAsync(TestContext.Current.CancellationToken));
        Assert.Equal("1|0", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', (SELECT count(*) FROM outbox.jobs WHERE lease_token IS NULL), (SELECT count(*) FROM outbox.job_history))"));
    }

    [Theory]
    [InlineData("0", "1min")]
    [InlineData("5min", "1min")]
    [InlineData("10s", "10s")]
    public async Task A_completion_bounds_the_idle_time_of_its_transaction_alone(string before, string during)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var (queue, job) = await ClaimedAsync(database, TimeSpan.FromMinutes(1));
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await AskAsync($"SET idle_in_transaction_session_timeout = '{before}'");
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await new JobContext(job, EmptyServices.Instance, queue.Options, CancellationToken.None).CompleteAsync(transaction, TestContext.Current.CancellationToken);
            Assert.Equal(during, await AskAsync("SHOW idle_in_transaction_session_timeout"));
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal(before, await AskAsync("SHOW idle_in_transaction_session_timeout"));

        async Task<object?> AskAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection);
            return await command.ExecuteScalarAsync(TestContext.Current.CancellationToken);
        }
    }

    [Fault("W10", "the heartbeat cannot get through, handlers can", "the worker cancels them before the lease ends")]
    [Fact]
    public async Task A_worker_that_cannot_beat_cancels_its_handlers_before_its_lease_ends()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var cancelled = new TaskCompletionSource<long>();
        var started = new TaskCompletionSource();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, context, token) =>
            {
                started.TrySetResult();
                if (context.Attempt == 1)
                {
                    // On a thread of its own: a callback waits for the thread pool, which other tests starve.
                    Thread hears = new(() =>
                    {
                        token.WaitHandle.WaitOne();
                        cancelled.TrySetResult(TimeProvider.System.GetTimestamp());
                    }) { IsBackground = true };
                    hears.Start();
                    await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);
                }
            }),
            o => (o.Lease, o.HeartbeatInterval) = (TimeSpan.FromSeconds(3), TimeSpan.FromMilliseconds(500)));
        await worker.EnqueueAsync(new NumberJob(1));
        await started.Task;

        // Its row is locked by somebody: no beat comes through, and no connection breaks.
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await using var hold = new NpgsqlCommand("SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM outbox.workers FOR UPDATE", connection, transaction);
            var age = (double)(await hold.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
            var locked = TimeProvider.System.GetTimestamp();
            var heard = await cancelled.Task.WaitAsync(TimeSpan.FromSeconds(10), TimeProvider.System, TestContext.Current.CancellationToken);
            Assert.InRange(age + TimeProvider.System.GetElapsedTime(locked, heard).TotalSeconds, 1, 3);
        }

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed' AND failures = 0") == 1, "it runs again");
        Assert.Contains("The lease could not be kept", worker.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_job_whose_claim_came_back_after_the_lease_was_lost_is_not_started_and_goes_back()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var started = false;
        var outbox = new OutboxOptions().Handle<NumberJob>((_, _, _) =>
        {
            started = true;
            return Task.CompletedTask;
        });
        var (queue, job) = await ClaimedAsync(database, TimeSpan.FromMinutes(1));
        var logger = Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;
        var options = new BackgroundJobs.Outbox.Worker.OutboxWorkerOptions();
        var running = new BackgroundJobs.Outbox.Worker.RunningAttempts(options, TimeProvider.System, logger);
        using var outcomes = new BackgroundJobs.Outbox.Worker.OutcomeWriter(
            new BackgroundJobs.Outbox.Worker.OutcomeRecorder(queue, prepare: false, logger), new BackgroundJobs.Outbox.Worker.HeldJobs(), database.DataSource, TimeProvider.System, logger);

        // Never started: it holds nothing.
        using var lease = new BackgroundJobs.Outbox.Worker.WorkerLease(
            queue, database.DataSource, options, new WorkerRegistration(Guid.Empty, "", "", 0, "", options.Lease, "{}", []), running, indexed: false, TimeProvider.System, logger);
        var scopes = new Microsoft.Extensions.DependencyInjection.ServiceCollection();
        await using var provider = Microsoft.Extensions.DependencyInjection.ServiceCollectionContainerBuilderExtensions.BuildServiceProvider(scopes);
        var runner = new BackgroundJobs.Outbox.Worker.JobRunner(
            outbox,
            (Microsoft.Extensions.DependencyInjection.IServiceScopeFactory)provider.GetService(typeof(Microsoft.Extensions.DependencyInjection.IServiceScopeFactory))!,
            lease,
            outcomes,
            queue.SaveStepAsync,
            queue.ParentsAsync,
            TimeProvider.System,
            logger,
            CancellationToken.None);
        await runner.RunAsync(job, running.AddSlot());
        outcomes.Complete();
        await outcomes.RunAsync(TestContext.Current.CancellationToken);

        Assert.False(started);
        Assert.Equal("t|0", await database.ScalarAsync<string>("SELECT concat_ws('|', lease_token IS NULL, failures) FROM outbox.jobs"));
    }

    private static async Task<(JobQueue, ClaimedJob)> ClaimedAsync(ScratchDatabase database, TimeSpan lease)
    {
        var queue = new JobQueue(database.DataSource);
        var worker = await RegisterAsync(database, queue, lease);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        return (queue, await ClaimAsync(database, queue, worker));
    }

    private static async Task<ClaimedJob> ClaimAsync(ScratchDatabase database, JobQueue queue, Guid worker) =>
        Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));

    private static async Task<Guid> RegisterAsync(ScratchDatabase database, JobQueue queue, TimeSpan lease)
    {
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        var worker = new WorkerRegistration(Guid.NewGuid(), "test", "here", 1, "0", lease, "{}", ["number"]);
        queue.Register(connection, worker);
        return worker.Id;
    }

    private sealed class EmptyServices : IServiceProvider
    {
        public static EmptyServices Instance { get; } = new();

        public object? GetService(Type serviceType) => null;
    }
}
