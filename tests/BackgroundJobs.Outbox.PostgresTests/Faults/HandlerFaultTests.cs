using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

// What user code does to its worker.
public sealed class HandlerFaultTests
{
    [Fault("W09", "handlers hold every connection of the pool", "the heartbeat keeps its own")]
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task W09_handlers_that_hold_all_connections_of_the_application_cost_the_worker_no_lease(bool shared)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var pool = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(database.ConnectionString) { MaxPoolSize = 6, Timeout = 60 }.ConnectionString);
        var waiting = 0;
        var ended = 0;
        TaskCompletionSource mayEnd = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, _, token) =>
            {
                await using var connection = await pool.OpenConnectionAsync(token);
                Interlocked.Increment(ref waiting);
                await mayEnd.Task.WaitAsync(token);
                Interlocked.Increment(ref ended);
            }),
            o =>
            {
                (o.Lease, o.HeartbeatInterval) = (TimeSpan.FromSeconds(2), TimeSpan.FromMilliseconds(500));
                if (shared)
                    (o.ConnectionString, o.Listen) = (null, false);
            },
            services => services.AddSingleton(pool));
        await worker.Queue.EnqueueAsync([.. Enumerable.Range(0, 10).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);

        // One is the heartbeat's where the worker has no pool of its own.
        var held = shared ? 5 : 6;
        await Eventually.TrueAsync(() => Volatile.Read(ref waiting) == held, "the handlers hold all");
        var before = await BeatAsync();
        await Eventually.TrueAsync(async () => await BeatAsync() > before.AddSeconds(3), "it beats for longer than a lease");
        mayEnd.SetResult();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE attempt = 1 AND failures = 0") == 10, "all complete in their first attempt");
        Assert.Equal(10, ended);

        async Task<DateTime> BeatAsync() => await database.ScalarAsync<DateTime>("SELECT heartbeat_at FROM outbox.workers");
    }

    [Fault("W24", "a cursor with NUL, NaN, a cycle, a hundred levels", "a failure with a reason")]
    [Theory]
    [InlineData("nul", "cannot store")]
    [InlineData("nan", "infinity")]
    [InlineData("cycle", "cycle")]
    [InlineData("deep", "cycle")]
    public async Task W24_a_cursor_that_cannot_be_stored_is_a_failure_with_a_reason(string what, string reason)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(
                (_, context, _) =>
                {
                    Node node = new();
                    node.Next = node;
                    switch (what)
                    {
                        case "nul":
                            context.SafeExitPoint("a\0b");
                            break;
                        case "nan":
                            context.SafeExitPoint(double.NaN);
                            break;
                        case "cycle":
                            context.SafeExitPoint(node);
                            break;
                        default:
                            context.SafeExitPoint(Enumerable.Range(0, 100).Aggregate(new Node(), (inner, _) => new Node { Next = inner }));
                            break;
                    }

                    return Task.CompletedTask;
                },
                kind => kind.Retry = RetryPolicy.None));
        var id = await worker.EnqueueAsync(new NumberJob(1));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'") == "dead", "it is dead");
        Assert.Contains(reason, await database.ScalarAsync<string>($"SELECT errors->-1->>'message' FROM outbox.job_history WHERE id = '{id}'"), StringComparison.OrdinalIgnoreCase);
    }

    [Fault("W25", "a handler's constructor or its scope's disposal throws", "a failure; the slot is free")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task W25_a_handler_that_cannot_be_made_or_whose_scope_cannot_be_disposed_has_failed_and_its_slot_is_free(bool made)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o
                .Handle<NumberJob, Broken>(kind => kind.Retry = RetryPolicy.None)
                .Handle<OtherJob>((_, _, _) => Task.CompletedTask),
            o => o.Queue("default", 1),
            services => services.AddScoped(_ => new Broken(made)));
        var id = await worker.EnqueueAsync(new NumberJob(1));
        var next = await worker.EnqueueAsync(new OtherJob("next"));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{next}'") == "completed", "the only slot is free again");
        Assert.Equal("dead|broken", await database.ScalarAsync<string>($"SELECT concat_ws('|', state, errors->-1->>'message') FROM outbox.job_history WHERE id = '{id}'"));
    }

    private sealed class Node
    {
        public Node? Next { get; set; }
    }

    private sealed class Broken : IJobHandler<NumberJob>, IDisposable
    {
        public Broken(bool made)
        {
            if (!made)
                throw new InvalidOperationException("broken");
        }

        public Task HandleAsync(NumberJob job, JobContext context, CancellationToken cancellationToken) => Task.CompletedTask;

        public void Dispose() => throw new InvalidOperationException("broken");
    }
}
