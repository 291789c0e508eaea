using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Claim;

public sealed class ClaimTests
{
    private static readonly string[] Kinds = ["number"];

    [Fact]
    public async Task Urgent_jobs_come_first_then_older_ones_then_in_the_order_of_their_enqueue()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(
        [
            Job(1, priority: 4), Job(2, priority: 2), Job(3, priority: 2), Job(4, priority: 1), Job(5, priority: 3),
            Job(6, priority: 2, runAt: DateTimeOffset.UnixEpoch),
        ], TestContext.Current.CancellationToken);
        Assert.Equal([4, 6, 2, 3, 5, 1], Numbers(await ClaimAsync(database, 10)));
    }

    [Fact]
    public async Task Jobs_of_a_higher_priority_that_are_not_due_do_not_hide_those_that_are()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(
            [.. Enumerable.Range(0, 2000).Select(n => NewJob.Create(new NumberJob(n), new() { Priority = 1, Delay = TimeSpan.FromHours(1) })), Job(-1, priority: 4)],
            TestContext.Current.CancellationToken);
        Assert.Equal([-1], Numbers(await ClaimAsync(database, 10)));
    }

    [Fact]
    public async Task What_is_not_due_is_claimed_at_no_priority()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(
            [.. new[] { 1, 2, 3, 4 }.Select(priority => NewJob.Create(new NumberJob(priority), new() { Priority = priority, Delay = TimeSpan.FromHours(1) }))],
            TestContext.Current.CancellationToken);
        Assert.Empty(await ClaimAsync(database, 10));
    }

    [Fault("W39", "sixteen workers claim at once", "no job twice, none left")]
    [Fact]
    public async Task Sixteen_workers_that_claim_at_once_never_get_the_same_job_and_leave_none()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobQueue(database.DataSource).EnqueueAsync([.. Enumerable.Range(0, 3000).Select(n => Job(n))], TestContext.Current.CancellationToken);
        var claimed = await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Task.Run(async () =>
        {
            var worker = await Workers.RegisterAsync(database);
            List<ClaimedJob> all = [];
            while (await new JobQueue(database.DataSource).ClaimAsync(ClaimRequest.Everything("default", 37, worker, Kinds)) is { Count: > 0 } some)
                all.AddRange(some);
            return all;
        })));
        // A claim that found only what others had locked comes back empty; nothing may be left waiting for all that.
        var rest = await ClaimAsync(database, 3000);
        Assert.Equal(Enumerable.Range(0, 3000), Numbers([.. claimed.SelectMany(each => each), .. rest]).Order());
    }

    [Fault("W27", "a kind that this worker does not know", "it never claims it")]
    [Fault("W28", "a kind whose handler is gone", "it waits, the others run; names are stable, not those of CLR types")]
    [Fault("D10", "an unknown kind", "claimed by nobody, listed as waiting")]
    [Fact]
    public async Task Only_known_kinds_of_the_asked_queue_are_claimed_and_nothing_of_a_paused_one()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync(
            [NewJob.Create(new OtherJob("x")), NewJob.Create(new NumberJob(1), new() { Queue = "elsewhere" }), Job(2)], TestContext.Current.CancellationToken);
        var admin = new JobAdmin(database.Operator);
        await admin.PauseQueueAsync("default", cancellationToken: TestContext.Current.CancellationToken);
        Assert.Empty(await ClaimAsync(database, 10));
        await admin.ResumeQueueAsync("default", cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal([2], Numbers(await ClaimAsync(database, 10)));
    }

    [Fact]
    public async Task A_claim_goes_past_what_others_have_locked_and_does_not_wait()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobQueue(database.DataSource).EnqueueAsync([Job(1), Job(2), Job(3)], TestContext.Current.CancellationToken);
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await using var hold = new NpgsqlCommand("SELECT FROM outbox.jobs WHERE args->>'number' = '1' FOR UPDATE", connection, transaction);
        await hold.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        Assert.Equal([2, 3], Numbers(await ClaimAsync(database, 10)));
    }

    [Fact]
    public async Task A_claim_that_was_given_up_and_still_comes_claims_nothing_whether_it_is_late_or_under_way()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([Job(1)], TestContext.Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database);
        var request = ClaimRequest.Everything("default", 10, worker, Kinds);

        // It has found its jobs and waits for the worker's row, while the worker gives it up.
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, await queue.ReleaseClaimsAsync(connection, worker, 1, []));
        var claim = queue.ClaimAsync(request);
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0)"), "it waits");
        await transaction.CommitAsync(TestContext.Current.CancellationToken);
        Assert.Empty(await claim);

        Assert.Empty(await queue.ClaimAsync(request));
        Assert.Single(await queue.ClaimAsync(request with { Epoch = 1 }));
    }

    [Fact]
    public async Task Giving_a_claim_up_waits_for_it_where_it_is_under_way_and_gives_back_what_it_brought_and_nothing_else()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([Job(1), Job(2)], TestContext.Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database);
        var kept = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 1, worker, Kinds)));

        var request = ClaimRequest.Everything("default", 1, worker, Kinds);
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        Assert.Single((await queue.ClaimAsync(connection, [request], prepare: false))[0].Jobs);
        await using var other = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        var release = queue.ReleaseClaimsAsync(other, worker, 1, [new(kept.Id, kept.LeaseToken)]);
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0)"), "it waits");
        await transaction.CommitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(1, await release);
        Assert.Equal(kept.Id, await database.ScalarAsync<Guid>("SELECT id FROM outbox.jobs WHERE lease_token IS NOT NULL"));
    }

    [Fact]
    public async Task Claims_are_hot_updates()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobQueue(database.DataSource).EnqueueAsync([.. Enumerable.Range(0, 2000).Select(n => Job(n))], TestContext.Current.CancellationToken);
        Assert.Equal(2000, (await ClaimAsync(database, 2000)).Count);

        // A session publishes what it counted when it ends.
        database.DataSource.Clear();
        string? counted = null;
        await Eventually.TrueAsync(
            async () => (counted = await database.ScalarAsync<string>("SELECT concat_ws('|', n_tup_upd, n_tup_hot_upd) FROM pg_stat_user_tables WHERE relname = 'jobs'")) != "0|0",
            "the updates are counted");
        Assert.Equal("2000|2000", counted);
    }

    [Fact]
    public async Task A_claim_with_a_cursor_touches_few_pages_however_many_dead_entries_lie_before_it()
    {
        await using var database = await ScratchDatabase.MigratedAsync();

        // A transaction elsewhere keeps every dead row.
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var snapshot = await connection.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead, TestContext.Current.CancellationToken);
        await using (var look = new NpgsqlCommand("SELECT count(*) FROM outbox.jobs", connection, snapshot))
            await look.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);

        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([.. Enumerable.Range(0, 30_000).Select(n => Job(n))], TestContext.Current.CancellationToken);
        var last = (await ClaimAsync(database, 30_000))[^1];
        await database.ExecuteAsync("DELETE FROM outbox.jobs");
        await queue.EnqueueAsync([.. Enumerable.Range(0, 100).Select(n => Job(n))], TestContext.Current.CancellationToken);
        await database.ExecuteAsync("ANALYZE outbox.jobs");
        var worker = await Workers.RegisterAsync(database);

        var from = await PlanAsync(database, worker, last.RunAt, last.Id);
        var all = await PlanAsync(database, worker, DateTime.MinValue, Guid.Empty);
        from.MustUse("jobs_ready");
        from.MustNotScan("jobs");
        Assert.True(from.Buffers * 5 < all.Buffers, $"{from.Buffers} pages with the cursor, {all.Buffers} without.");
    }

    private static Task<Plan> PlanAsync(ScratchDatabase database, Guid worker, DateTime after, Guid id) => Plan.OfAsync(
        database.DataSource,
        "sql/claim_jobs.sql",
        ("queue", "default"),
        ("limit", 100),
        ("after_run_at", Enumerable.Repeat(DateTime.SpecifyKind(after, DateTimeKind.Utc), 4).ToArray()),
        ("after_id", Enumerable.Repeat(id, 4).ToArray()),
        ("suspects", false),
        ("kinds", Kinds),
        ("worker", worker),
        ("epoch", 0),
        ("lease_token", Guid.NewGuid()));

    private static NewJob Job(int number, int priority = 2, DateTimeOffset? runAt = null) =>
        NewJob.Create(new NumberJob(number), new() { Priority = priority, RunAt = runAt });

    private static async Task<List<ClaimedJob>> ClaimAsync(ScratchDatabase database, int limit) =>
        await new JobQueue(database.DataSource).ClaimAsync(ClaimRequest.Everything("default", limit, await Workers.RegisterAsync(database), Kinds));

    private static IEnumerable<int> Numbers(IEnumerable<ClaimedJob> jobs) => jobs.Select(job => JobJson.Read<NumberJob>(job.Args, OutboxOptions.Default).Number);
}
