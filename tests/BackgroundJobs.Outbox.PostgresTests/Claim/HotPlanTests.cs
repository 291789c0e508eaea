using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Claim;

// The statements that run all the time, on a table of 200,000 jobs: which index they use, and that none reads the table.
public sealed class HotPlanTests(HotPlanTests.Full full) : IClassFixture<HotPlanTests.Full>
{
    [Fact]
    public async Task Claim_walks_jobs_ready_and_finds_rows_by_ctid()
    {
        var plan = await Plan.OfAsync(
            full.Database.DataSource,
            "sql/claim_jobs.sql",
            ("queue", "q3"),
            ("limit", 100),
            ("after_run_at", new DateTime[] { DateTime.MinValue, DateTime.MinValue, DateTime.MinValue, DateTime.MinValue }),
            ("after_id", new Guid[4]),
            ("suspects", false),
            ("kinds", new[] { "number" }),
            ("worker", full.Worker),
            ("epoch", 0),
            ("lease_token", Guid.NewGuid()));
        plan.MustUse("jobs_ready");
        plan.MustNotScan("jobs");
        Assert.Contains(plan.Nodes, node => node.GetProperty("Node Type").GetString() == "Tid Scan");
        Assert.InRange(plan.Buffers, 1, 3000);
    }

    // As in most deployments: the worker starts while the queue is empty, and its plans stay.
    [Fact]
    public async Task Plans_that_were_made_on_an_empty_table_do_not_read_it_whole_when_it_is_full()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("ANALYZE outbox.jobs");
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await using (var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken))
        {
            for (var n = 0; n < 20; n++)
            {
                await queue.EnqueueAsync([NewJob.Create(new NumberJob(n)), NewJob.Create(new NumberJob(-n)), NewJob.Create(new NumberJob(n))], TestContext.Current.CancellationToken);
                var jobs = (await queue.ClaimAsync(connection, [ClaimRequest.Everything("default", 10, worker, ["number"])], prepare: true))[0].Jobs;
                Assert.Equal(3, jobs.Count);
                Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(jobs[0], JobState.Completed, HistoryPolicy.Keep, null)], prepare: true));
                Assert.Single(await queue.RescheduleAsync(connection, [new RescheduledJob(jobs[1], TimeSpan.FromHours(1), false, null, null)]));
                await using var complete = new NpgsqlCommand("CALL outbox.complete_job($1, $2, 0::smallint)", connection)
                {
                    Parameters = { new() { Value = jobs[2].Id }, new() { Value = jobs[2].LeaseToken } },
                };
                await complete.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            }
        }

        NpgsqlConnection.ClearAllPools();
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<long>("SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = 'jobs'") == 40, "the server has counted");
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'jobs'"));
    }

    // Statistics count the living, a scan passes over the dead too.
    [Fault("P16", "a pinned snapshot keeps dead rows for long", "claims and records do not read them again and again; table_health names the session")]
    [Fact]
    public async Task Ends_are_recorded_by_key_where_a_pinned_snapshot_keeps_the_dead_and_statistics_do_not_see_them()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await using var pin = await PinAsync(database);
        await LeaveDeadAsync(database, 30_000);
        await database.ExecuteAsync("ANALYZE outbox.jobs");
        await queue.EnqueueAsync([.. Enumerable.Range(0, 100).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);

        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        for (var n = 0; n < 10; n++)
        {
            var jobs = (await queue.ClaimAsync(connection, [ClaimRequest.Everything("default", 10, worker, ["number"])], prepare: true))[0].Jobs;
            Assert.Equal(10, jobs.Count);
            List<ClaimedJob> ended = jobs[..5], failed = jobs[5..];
            await ReadsAFewAsync(async () => Assert.Empty(await queue.FinishAsync(
                connection, [.. ended.Select(job => new FinishedJob(job, JobState.Completed, HistoryPolicy.Keep, null))], prepare: true)));
            await ReadsAFewAsync(() => queue.SaveCursorsAsync(connection, [.. failed.Select(job => (job, (string?)"1", (string?)null))]));
            await ReadsAFewAsync(async () => Assert.Empty(await queue.ListLockedAsync(connection, failed)));
            await ReadsAFewAsync(async () => Assert.Equal(5, (await queue.RescheduleAsync(
                connection, [.. failed.Select(job => new RescheduledJob(job, TimeSpan.FromHours(1), true, null, null))])).Count));
        }

        async Task ReadsAFewAsync(Func<Task> record)
        {
            await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
            var before = await ReadAsync(connection);
            await record();
            Assert.InRange(await ReadAsync(connection) - before, 5, 100);
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }
    }

    // PostgreSQL deemed reading jobs_ready once per id the cheaper way: it took minutes.
    [Fact]
    public async Task A_batch_of_ends_is_recorded_by_key_where_statistics_saw_two_jobs_in_a_table_of_the_dead()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("ALTER TABLE outbox.jobs SET (autovacuum_enabled = off)");
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await using var pin = await PinAsync(database);
        await LeaveDeadAsync(database, 100_000);
        await queue.EnqueueAsync([.. Enumerable.Range(0, 2).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
        await database.ExecuteAsync("ANALYZE outbox.jobs");
        await queue.EnqueueAsync([.. Enumerable.Range(2, 298).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);

        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        var jobs = (await queue.ClaimAsync(connection, [ClaimRequest.Everything("default", 300, worker, ["number"])], prepare: true))[0].Jobs;
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        var before = await ReadAsync(connection, "blocks_fetched");
        Assert.Empty(await queue.FinishAsync(
            connection, [.. jobs.Select(job => new FinishedJob(job, JobState.Completed, HistoryPolicy.Keep, null))], prepare: true));
        Assert.InRange(await ReadAsync(connection, "blocks_fetched") - before, 1, 3000);
    }

    // As after a restore: a table without statistics. And a heartbeat must not grow with what a long transaction elsewhere keeps.
    [Fault("P17", "the workers' table full of dead rows", "a heartbeat reads a handful of pages")]
    [Fact]
    public async Task A_heartbeat_reads_a_handful_of_pages_where_statistics_are_missing_and_nearly_all_is_dead()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("ALTER TABLE outbox.jobs SET (autovacuum_enabled = off)");
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await using var pin = await PinAsync(database);
        await LeaveDeadAsync(database, 30_000);
        await queue.EnqueueAsync([.. Enumerable.Range(0, 1000).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);

        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await using var scans = new NpgsqlCommand("SELECT pg_stat_get_xact_numscans('outbox.jobs'::regclass)", connection);
        var before = await scans.ExecuteScalarAsync(TestContext.Current.CancellationToken);
        Assert.NotNull(queue.Beat(connection, worker, 0, 0, false, ["default"]));
        Assert.Equal(before, await scans.ExecuteScalarAsync(TestContext.Current.CancellationToken));
    }

    // The worker carries this clock on to know what is due: late by as much as the heartbeat took, it would keep every new job waiting.
    [Fact]
    public async Task A_heartbeat_tells_the_time_at_its_end()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), new() { Delay = TimeSpan.FromHours(1) })], TestContext.Current.CancellationToken);
        await using var behind = await PolicyRole.CreateAsync(database, "pg_sleep(1) IS NOT NULL");
        var began = TimeProvider.System.GetTimestamp();
        var beat = queue.Beat(behind.Connection, worker, 0, 0, false, ["default"])!;
        Assert.InRange(TimeProvider.System.GetElapsedTime(began), TimeSpan.FromSeconds(1), TimeSpan.MaxValue);
        await using var clock = new NpgsqlCommand("SELECT clock_timestamp()", behind.Connection);
        var now = (DateTime)(await clock.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
        Assert.InRange(now - beat.Now, TimeSpan.Zero, TimeSpan.FromMilliseconds(500));
    }

    // A kept plan is compiled again each time it runs, and at ten million jobs all of them cost enough for it: 74 ms a claim in place of 13,
    // and 364 a heartbeat. Here rows show themselves only to statements that are not to be compiled.
    [Fact]
    public async Task None_of_them_is_compiled_however_large_the_table()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await queue.EnqueueAsync([.. Enumerable.Range(0, 4).Select(n => NewJob.Create(new NumberJob(n), new() { Delay = TimeSpan.FromHours(n / 3) }))], TestContext.Current.CancellationToken);
        await using var behind = await PolicyRole.CreateAsync(database, "current_setting('jit') = 'off'");
        var connection = behind.Connection;
        await using (var setting = new NpgsqlCommand("SET jit = on", connection))
            await setting.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);

        Assert.NotNull(queue.Beat(connection, worker, 0, 0, false, ["default"])!.NextDue);
        var jobs = (await queue.ClaimAsync(connection, [ClaimRequest.Everything("default", 10, worker, ["number"])], prepare: false))[0].Jobs;
        Assert.Equal(3, jobs.Count);
        await queue.SaveCursorsAsync(connection, [(jobs[1], "1", null)]);
        Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(jobs[0], JobState.Completed, HistoryPolicy.Keep, null)], prepare: false));
        Assert.Single(await queue.RescheduleAsync(connection, [new RescheduledJob(jobs[1], TimeSpan.FromHours(1), false, null, null)]));
        await using var complete = new NpgsqlCommand("CALL outbox.complete_job($1, $2, 0::smallint)", connection)
        {
            Parameters = { new() { Value = jobs[2].Id }, new() { Value = jobs[2].LeaseToken } },
        };
        await complete.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        queue.OpenIndexed(connection);
        Assert.NotNull(queue.Beat(connection, worker, 1, 0, false, ["default"], indexed: true)!.NextDue);
        Assert.Equal("2 1", await database.ScalarAsync<string>("SELECT concat_ws(' ', count(*), count(saved_cursor)) FROM outbox.jobs"));
    }

    private static async Task<NpgsqlConnection> PinAsync(ScratchDatabase database)
    {
        var pin = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var hold = new NpgsqlCommand("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.workers", pin);
        await hold.ExecuteScalarAsync(TestContext.Current.CancellationToken);
        return pin;
    }

    private static async Task LeaveDeadAsync(ScratchDatabase database, int jobs)
    {
        await new JobQueue(database.DataSource).EnqueueAsync(
            [.. Enumerable.Range(0, jobs).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
        await database.ExecuteAsync("DELETE FROM outbox.jobs");
    }

    // What this transaction has read of the table's indexes so far.
    private static async Task<long> ReadAsync(NpgsqlConnection connection, string what = "tuples_returned")
    {
        await using var read = new NpgsqlCommand($"SELECT coalesce(sum(pg_stat_get_xact_{what}(indexrelid)), 0)::bigint FROM pg_index WHERE indrelid = 'outbox.jobs'::regclass", connection);
        return (long)(await read.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
    }

    [Fact]
    public async Task Finish_finds_rows_by_their_key()
    {
        var ids = await IdsAsync(500);
        var plan = await Plan.OfAsync(
            full.Database.DataSource,
            "sql/finish_jobs.sql",
            ("ids", ids),
            ("lease_tokens", ids),
            ("states", Enumerable.Repeat("completed", ids.Length).ToArray()),
            ("history", new short[ids.Length]),
            ("errors", new string?[ids.Length]),
            ("cursors", new string?[ids.Length]),
            ("results", new string?[ids.Length]),
            ("limited", true));
        plan.MustUse("jobs_pkey");
        plan.MustNotScan("jobs");
    }

    [Fact]
    public async Task Reschedule_finds_rows_by_their_key()
    {
        var ids = await IdsAsync(500);
        var plan = await Plan.OfAsync(
            full.Database.DataSource,
            "sql/reschedule_jobs.sql",
            ("ids", ids),
            ("lease_tokens", ids),
            ("delays", new long?[ids.Length]),
            ("failed", new short[ids.Length]),
            ("errors", new string?[ids.Length]),
            ("cursors", new string?[ids.Length]));
        plan.MustUse("jobs_pkey");
        plan.MustNotScan("jobs");
    }

    [Fact]
    public async Task A_heartbeat_reads_a_handful_of_pages()
    {
        var plan = await Plan.OfAsync(
            full.Database.DataSource,
            "sql/beat_worker.sql",
            ("worker", full.Worker), ("running", 1), ("stuck", 0), ("stopping", false), ("queues", new[] { "q1", "q2", "q3" }));
        plan.MustNotScan("jobs");
        Assert.InRange(plan.Buffers, 1, 200);
    }

    private async Task<Guid[]> IdsAsync(int count)
    {
        await using var command = full.Database.DataSource.CreateCommand($"SELECT array_agg(id) FROM (SELECT id FROM outbox.jobs LIMIT {count}) AS page");
        return (Guid[])(await command.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
    }

    // A session to which the rows of jobs show themselves under a condition.
    private sealed class PolicyRole(ScratchDatabase database, string role, NpgsqlConnection connection) : IAsyncDisposable
    {
        public NpgsqlConnection Connection => connection;

        public static async Task<PolicyRole> CreateAsync(ScratchDatabase database, string condition)
        {
            var role = $"policy_{Guid.NewGuid():n}";
            await database.ExecuteAsync($"""
                CREATE ROLE {role};
                GRANT USAGE ON SCHEMA outbox TO {role};
                GRANT ALL ON ALL TABLES IN SCHEMA outbox TO {role};
                GRANT EXECUTE ON ALL ROUTINES IN SCHEMA outbox TO {role};
                ALTER TABLE outbox.jobs ENABLE ROW LEVEL SECURITY;
                CREATE POLICY condition ON outbox.jobs USING ({condition});
                """);
            PolicyRole created = new(database, role, await database.Admin.OpenConnectionAsync(TestContext.Current.CancellationToken));
            await using var become = new NpgsqlCommand($"SET ROLE {role}", created.Connection);
            await become.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            return created;
        }

        public async ValueTask DisposeAsync()
        {
            await connection.DisposeAsync();
            await database.ExecuteAsync($"DROP OWNED BY {role}; DROP ROLE {role}");
        }
    }

    public sealed class Full : IAsyncLifetime
    {
        internal ScratchDatabase Database { get; private set; } = null!;

        internal Guid Worker { get; private set; }

        public async ValueTask InitializeAsync()
        {
            Database = await ScratchDatabase.MigratedAsync();
            await Database.ExecuteAsync("""
                INSERT INTO outbox.jobs (id, kind, args, queue, priority, run_at)
                SELECT outbox.new_job_id(), CASE WHEN n % 3 = 0 THEN 'other' ELSE 'number' END, '{"number": 1}', 'q' || n % 5, 1 + n % 4,
                    now() + (n - 150000) * interval '1 second'
                FROM generate_series(1, 200000) AS n
                """);
            await Database.ExecuteAsync("VACUUM ANALYZE outbox.jobs");
            Worker = await Workers.RegisterAsync(Database);
        }

        public ValueTask DisposeAsync() => Database.DisposeAsync();
    }
}
