using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

// What an administrator may have set for the database or the role, and what it must not change.
public sealed class ServerSettingsTests
{
    private static readonly string[] Kinds = ["number"];

    // Each a setting that has broken some queue.
    [Fault("P14", "short statement, lock and idle timeouts set for the role", "jobs run")]
    [Fault("P31", "a hostile search_path, other zones, date styles and isolation levels", "jobs run once, at their time")]
    [Fault("X06", "tables, functions and operators of our names where the role looks first", "ours are used")]
    [Theory]
    [InlineData("statement_timeout = '50ms'; lock_timeout = '10ms'; idle_in_transaction_session_timeout = '1s'")]
    [InlineData("timezone = 'Asia/Kolkata'; datestyle = 'German, DMY'; intervalstyle = 'sql_standard'; bytea_output = 'escape'; extra_float_digits = -15; standard_conforming_strings = off; transform_null_equals = on; xmlbinary = 'hex'; lc_messages = 'C'")]
    [InlineData("default_transaction_isolation = 'serializable'")]
    [InlineData("default_transaction_isolation = 'repeatable read'; default_transaction_deferrable = on; row_security = off")]
    [InlineData("search_path = evil, public")]
    [InlineData("enable_indexscan = off; enable_indexonlyscan = off; enable_bitmapscan = off; jit = on; jit_above_cost = 0; plan_cache_mode = 'force_generic_plan'; work_mem = '64kB'; max_parallel_workers_per_gather = 4; min_parallel_table_scan_size = 0; parallel_setup_cost = 0; parallel_tuple_cost = 0")]
    public async Task P14_P31_X06_jobs_run_once_whatever_is_set_for_the_role(string settings)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await EvilAsync(database);
        foreach (var setting in settings.Split(';', StringSplitOptions.TrimEntries))
            await database.ExecuteAsync($"ALTER ROLE {TestRoles.Application} IN DATABASE \"{database.Name}\" SET {setting}");
        database.DataSource.Clear();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o
                .Handle<NumberJob>(
                    (_, context, _) => context.Attempt == 1 && context.JobId.ToByteArray()[^1] % 8 == 0 ? throw new InvalidOperationException("again") : Task.CompletedTask,
                    kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(100)))
                .Handle<OtherJob>((_, _, _) => Task.CompletedTask),
            o => (o.PollInterval, o.HeartbeatInterval) = (TimeSpan.FromMilliseconds(500), TimeSpan.FromMilliseconds(500)));
        await using (var second = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask), o => o.PollInterval = TimeSpan.FromMilliseconds(500)))
        {
            foreach (var chunk in Enumerable.Range(0, 3000).Chunk(100))
                await EnqueueAsync([.. chunk.Select(n => NewJob.Create(new NumberJob(n)))]);
            var delayed = NewJob.Create(new OtherJob("in a moment"), new() { Delay = TimeSpan.FromSeconds(1) });
            await EnqueueAsync([delayed]);
            await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all are done", 60);
            Assert.Equal("3001|3001|0", await database.ScalarAsync<string>(
                "SELECT concat_ws('|', count(*), count(DISTINCT id), max(crashes)) FROM outbox.job_history WHERE state = 'completed'"));
            Assert.True(await database.ScalarAsync<bool>($"SELECT claimed_at >= run_at AND run_at = created_at + interval '1 second' FROM outbox.job_history WHERE id = '{delayed.Id}'"));
        }

        var cancelled = NewJob.Create(new OtherJob("never"), new() { Delay = TimeSpan.FromHours(1) });
        await EnqueueAsync([cancelled]);
        Assert.True(await new JobAdmin(database.Operator).CancelAsync(cancelled.Id, "a test", TestContext.Current.CancellationToken));
        Assert.Equal("cancelled", await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{cancelled.Id}'"));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM evil.jobs"));

        // The application's own statement may take longer than its administrator allows, may not be serializable, or may wait too long
        // for the lock under which PostgreSQL makes a table longer (any two sessions that insert meet there), and is tried again, as such a one must be.
        async Task EnqueueAsync(NewJob[] jobs)
        {
            while (true)
            {
                try
                {
                    await worker.Queue.EnqueueAsync(jobs, TestContext.Current.CancellationToken);
                    return;
                }
                catch (PostgresException e) when (e.SqlState is PostgresErrorCodes.QueryCanceled or PostgresErrorCodes.SerializationFailure or PostgresErrorCodes.LockNotAvailable)
                {
                }
            }
        }
    }

    [Fault("P18", "205 combinations of forbidden plans", "a claim takes exactly what it asked for")]
    [Fact]
    public async Task P18_a_claim_takes_at_most_what_it_asked_for_whatever_plan_it_gets()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([.. Enumerable.Range(0, 500).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database);
        string[] methods = ["enable_nestloop", "enable_hashjoin", "enable_mergejoin", "enable_indexscan", "enable_bitmapscan", "enable_seqscan", "enable_material", "enable_sort", "enable_hashagg", "enable_tidscan"];
        var claimed = 0;
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);

        // As for the library's own claims: a plan of forbidden methods seems so costly that it would be compiled each time, a second at a time.
        await using (var jit = new NpgsqlCommand("SET jit = off", connection))
            await jit.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        for (var off = 0; off < 1 << methods.Length; off += 5)
        {
            var settings = string.Join("; ", methods.Select((method, at) => $"SET {method} = {((off >> at) & 1) == 0}"));
            await using (var set = new NpgsqlCommand(settings, connection))
                await set.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);

            // Indexed: the session's own settings are left as they are.
            Assert.Equal(7, ((await queue.ClaimAsync(connection, [ClaimRequest.Everything("default", 7, worker, Kinds)], prepare: false, indexed: true))[0].Jobs).Count);
            claimed += 7;
            await using var again = database.Admin.CreateCommand("UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL");
            await again.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal(205 * 7, claimed);
    }

    // A collation that an operating system's update changes would break the order of the indexes that use it.
    [Fault("P20", "an operating system's collation changes", "no index of ours uses one")]
    [Fact]
    public async Task P20_no_index_depends_on_a_collation_of_the_operating_system()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Assert.Empty(await database.TextsAsync("""
            SELECT DISTINCT i.indexrelid::regclass || ': ' || c.collname
            FROM pg_index AS i
            CROSS JOIN unnest(i.indcollation) AS used (id)
            JOIN pg_collation AS c ON c.oid = used.id
            JOIN pg_class AS r ON r.oid = i.indexrelid
            WHERE r.relnamespace = 'outbox'::regnamespace
              AND c.collname <> 'C'
            """));
        Assert.NotEqual(0L, await database.ScalarAsync<long>("SELECT count(*) FROM pg_index AS i JOIN pg_class AS r ON r.oid = i.indexrelid WHERE r.relnamespace = 'outbox'::regnamespace AND 950 = ANY (i.indcollation)"));
    }

    [Fault("P31", "a database that is not UTF8", "refused by migrator and worker")]
    [Theory]
    [InlineData("LATIN1")]
    [InlineData("SQL_ASCII")]
    public async Task P31_a_database_that_is_not_UTF8_is_refused_by_the_migrator_and_by_a_worker(string encoding)
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var name = $"{database.Name}_{encoding.ToLowerInvariant()}";
        await database.ExecuteAsync($"CREATE DATABASE \"{name}\" ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        try
        {
            var other = new NpgsqlConnectionStringBuilder(database.AdminConnectionString) { Database = name, Pooling = false }.ConnectionString;
            await using var source = NpgsqlDataSource.Create(other);
            var migrator = new Migrator(source);
            foreach (var attempt in new Func<Task>[] { () => migrator.MigrateAsync(TestContext.Current.CancellationToken), () => migrator.CheckAsync(TestContext.Current.CancellationToken) })
            {
                var error = await Assert.ThrowsAsync<OutboxSchemaException>(attempt);
                Assert.Contains(encoding, error.Message, StringComparison.Ordinal);
                Assert.Contains("ENCODING 'UTF8'", error.Message, StringComparison.Ordinal);
            }
        }
        finally
        {
            await database.ExecuteAsync($"DROP DATABASE \"{name}\"");
        }
    }

    // Things of our names where the role looks first.
    private static Task EvilAsync(ScratchDatabase database) => database.ExecuteAsync("""
        CREATE SCHEMA evil;
        GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE TABLE evil.jobs (LIKE outbox.jobs);
        CREATE TABLE evil.workers (LIKE outbox.workers);
        CREATE TABLE evil.queues (LIKE outbox.queues);
        CREATE TABLE evil.job_history (LIKE outbox.job_history);
        CREATE FUNCTION evil.enqueue(text, jsonb) RETURNS uuid LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
        CREATE FUNCTION evil.complete_job(uuid, uuid, smallint) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
        CREATE FUNCTION evil.is_equal(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.is_equal);
        CREATE DOMAIN evil.job_name AS text CHECK (VALUE = 'evil');
        GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC;
        """);
}
