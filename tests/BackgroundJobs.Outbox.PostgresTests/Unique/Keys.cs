using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Unique;

// A database in which jobs are enqueued with keys, compared, claimed and ended by hand, one step after the other.
internal sealed class Keys : IAsyncDisposable
{
    private readonly Dictionary<Guid, ClaimedJob> claimed = [];
    private readonly Guid worker;

    private Keys(ScratchDatabase database, Guid worker)
    {
        Database = database;
        this.worker = worker;
        Queue = new(database.DataSource);
    }

    public ScratchDatabase Database { get; }

    public JobQueue Queue { get; }

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public static async Task<Keys> OpenAsync()
    {
        var database = await ScratchDatabase.MigratedAsync();
        return new(database, await Workers.RegisterAsync(database));
    }

    public async Task<Guid> EnqueueAsync(UniqueJob? unique, int number = 0, TimeSpan? delay = null)
    {
        var job = NewJob.Create(new NumberJob(number), new() { Unique = unique, Delay = delay });
        await Queue.EnqueueAsync([job], Cancellation);
        return job.Id;
    }

    public async Task<Guid> SettledAsync(UniqueJob unique, TimeSpan? delay = null)
    {
        var id = await EnqueueAsync(unique, delay: delay);
        await SettleAsync();
        return id;
    }

    public async Task<int> SettleAsync()
    {
        await using var connection = await Database.DataSource.OpenConnectionAsync(Cancellation);
        var all = 0;
        for (var more = true; more;)
        {
            (var released, more) = await Queue.SettleUniqueAsync(connection, Cancellation);
            all += released;
        }

        return all;
    }

    // Whatever its time.
    public async Task ClaimAsync(Guid job)
    {
        ClaimedJob claim = new()
        {
            Id = job,
            Kind = "number",
            Args = [],
            Queue = "default",
            Priority = 2,
            RunAt = default,
            CreatedAt = default,
            MaxAttempts = 20,
            Failures = 0,
            Crashes = 0,
            Attempt = 1,
            LeaseToken = Guid.NewGuid(),
            WorkerId = worker,
            ClaimedAt = default,
        };
        await Database.ExecuteAsync($"""
            UPDATE outbox.jobs SET lease_token = '{claim.LeaseToken}', worker_id = '{worker}', claimed_at = clock_timestamp(), attempt = attempt + 1
            WHERE id = '{job}' AND priority > 0 AND lease_token IS NULL
            """);
        claimed[job] = claim;
    }

    public async Task FinishAsync(Guid job, JobState state = JobState.Completed)
    {
        await using var connection = await Database.DataSource.OpenConnectionAsync(Cancellation);
        Assert.Empty(await Queue.FinishAsync(connection, [new FinishedJob(claimed[job], state, HistoryPolicy.None, null)], prepare: false));
    }

    public async Task RunAsync(Guid job, JobState state = JobState.Completed)
    {
        await ClaimAsync(job);
        await FinishAsync(job, state);
    }

    public async Task FailAsync(Guid job, string? cursor = null)
    {
        await using var connection = await Database.DataSource.OpenConnectionAsync(Cancellation);
        Assert.Single(await Queue.RescheduleAsync(connection, [new RescheduledJob(claimed[job], TimeSpan.FromHours(1), true, null, cursor)]));
    }

    // "waiting", "running", ...; "met <name>" when it was not run in favour of that one.
    public async Task<string> StateAsync(Guid job, params (string Name, Guid Id)[] others)
    {
        var state = await Database.ScalarAsync<string>($"SELECT coalesce('met ' || met_id, state) FROM outbox.all_jobs WHERE id = '{job}'") ?? "gone";
        return others.Aggregate(state, (text, other) => text.Replace($"{other.Id}", other.Name, StringComparison.Ordinal));
    }

    public Task<DateTime> DueAsync(Guid job) => Database.ScalarAsync<DateTime>($"SELECT run_at FROM outbox.jobs WHERE id = '{job}'");

    public Task<DateTime> CreatedAsync(Guid job) => Database.ScalarAsync<DateTime>($"SELECT created_at FROM outbox.jobs WHERE id = '{job}'");

    // The clock goes on by so much, for all that has happened.
    public Task PassAsync(string time) => Database.ExecuteAsync($"""
        UPDATE outbox.jobs SET created_at = created_at - interval '{time}', run_at = run_at - interval '{time}', claimed_at = claimed_at - interval '{time}',
            unique_rule = CASE WHEN unique_rule ? 'since' THEN unique_rule || jsonb_build_object('since', (unique_rule ->> 'since')::timestamptz - interval '{time}') ELSE unique_rule END;
        UPDATE outbox.job_history SET created_at = created_at - interval '{time}', run_at = run_at - interval '{time}', claimed_at = claimed_at - interval '{time}',
            finished_at = finished_at - interval '{time}';
        """);

    public async Task<NpgsqlTransaction> BeginAsync() => await (await Database.DataSource.OpenConnectionAsync(Cancellation)).BeginTransactionAsync(Cancellation);

    public ValueTask DisposeAsync() => Database.DisposeAsync();
}
