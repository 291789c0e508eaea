using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;
using static Xunit.TestContext;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// Counted, not timed: how many rows are read.
public sealed class GroupCostTests
{
    private const int Groups = 3000;

    // The statements of a session keep the plans that they got when there was no or one group. One that looked through all groups for each of them
    // took half a second for a thousand.
    [Fact]
    public async Task Putting_groups_in_line_and_freeing_them_reads_each_a_few_times_however_many_there_are_and_were()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var connection = await database.Admin.OpenConnectionAsync(Current.CancellationToken);
        await ExecuteAsync(connection, "INSERT INTO outbox.queues (name, limited, group_concurrency) VALUES ('default', true, 1)");
        await ExecuteAsync(connection, "INSERT INTO outbox.job_groups (queue, job_group, state) VALUES ('default', 'none', 'full')");
        await CallAsync(connection);
        await ExecuteAsync(connection, "DELETE FROM outbox.job_groups");

        await ExecuteAsync(connection, $$"""
            INSERT INTO outbox.jobs (id, kind, args, queue, priority, run_at, max_attempts, job_group)
            SELECT outbox.new_job_id(), 'number', '{}', 'default', 2, now() - interval '1 minute', 20, 'group ' || n
            FROM generate_series(1, {{Groups}}) AS n
            """);
        var filed = await CountedAsync(connection, "job_groups", () => CallAsync(connection));
        var filedAgain = await CountedAsync(connection, "job_groups", () => CallAsync(connection));
        await ExecuteAsync(connection, "UPDATE outbox.job_groups SET state = 'full', look_at = 'infinity'");
        var freed = await CountedAsync(connection, "job_groups", () => ExecuteAsync(connection, $"""
            SELECT outbox.free_groups(array_fill('default'::text, ARRAY[{Groups}]), (SELECT array_agg('group ' || n) FROM generate_series(1, {Groups}) AS n))
            """));

        Assert.InRange(filed, 0, 4 * Groups);
        Assert.InRange(filedAgain, Groups, 4 * Groups);
        Assert.InRange(freed, Groups, 8 * Groups);
        await using var ready = new NpgsqlCommand("SELECT count(*) FROM outbox.job_groups WHERE state = 'ready'", connection);
        Assert.Equal((long)Groups, await ready.ExecuteScalarAsync(Current.CancellationToken));
    }

    // The same, of a claim, whose plans were made when all jobs were of one priority: one that looked for a group's jobs of another priority among all
    // jobs of the queue would read each some hundred times. That is the cheaper index where the names of groups are long.
    [Fact]
    public async Task A_claim_in_turn_reads_each_job_a_few_times_however_many_other_groups_wait()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var connection = await database.Admin.OpenConnectionAsync(Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database);
        await ExecuteAsync(connection, "INSERT INTO outbox.queues (name, limited, group_concurrency) VALUES ('default', true, 100)");
        await EnqueueAsync(priority: 2);
        await ExecuteAsync(connection, "ANALYZE outbox.jobs");
        await CallAsync(connection);
        await ClaimAsync();
        await ExecuteAsync(connection, "DELETE FROM outbox.jobs; DELETE FROM outbox.job_groups");

        await EnqueueAsync(priority: 1);
        await CallAsync(connection);
        var read = await CountedAsync(connection, "jobs", ClaimAsync);

        await using var claimed = new NpgsqlCommand("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL", connection);
        Assert.Equal(1000L, await claimed.ExecuteScalarAsync(Current.CancellationToken));
        Assert.InRange(read, 1000, 10_000);

        Task EnqueueAsync(int priority) => ExecuteAsync(connection, $$"""
            INSERT INTO outbox.jobs (id, kind, args, queue, priority, run_at, max_attempts, job_group)
            SELECT outbox.new_job_id(), 'number', '{}', 'default', {{priority}}, now() - interval '1 minute', 20, repeat('x', 150) || n % {{Groups}}
            FROM generate_series(1, {{2 * Groups}}) AS n
            """);

        Task ClaimAsync() =>
            ExecuteAsync(connection, $"SELECT FROM outbox.claim_in_turn('default', 1000, false, '{{number}}', '{worker}', 0, gen_random_uuid())");
    }

    // Pages, for entries of an index that are walked over are no rows read. It had gone on to the end of the group, for each priority.
    [Fact]
    public async Task The_look_for_the_next_jobs_of_a_group_ends_where_those_of_a_priority_end()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, priority, run_at, job_group)
            SELECT outbox.new_job_id(), 'number', '{}', CASE WHEN n <= 3 THEN 1 ELSE 3 END, now() - interval '1 hour' + n * interval '1 microsecond', 'large'
            FROM generate_series(1, 100000) AS n
            """);
        var plan = await Plan.OfSqlAsync(
            database.Admin,
            """
            SELECT *
            FROM outbox.due_in_group('default', 'large', array_fill('-infinity'::timestamptz, ARRAY[4]), array_fill('00000000-0000-0000-0000-000000000000'::uuid, ARRAY[4]))
            LIMIT 10
            """);
        Current.TestOutputHelper?.WriteLine($"{plan.Buffers} pages");
        Assert.InRange(plan.Buffers, 1, 60);
    }

    [Fact]
    public async Task Groups_that_are_full_cost_a_claim_nothing_however_long_they_are()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var connection = await database.Admin.OpenConnectionAsync(Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database);
        await ExecuteAsync(connection, "INSERT INTO outbox.queues (name, limited, group_concurrency) VALUES ('default', true, 1)");
        await ExecuteAsync(connection, $$"""
            INSERT INTO outbox.jobs (id, kind, args, run_at, job_group)
            SELECT outbox.new_job_id(), 'number', '{}', now() - interval '1 minute', 'group ' || n % {{Groups}}
            FROM generate_series(1, {{2 * Groups}}) AS n
            """);
        await CallAsync(connection);
        for (var claim = 0; claim < 30; claim++)
            await ClaimAsync();
        await using (var full = new NpgsqlCommand("SELECT count(*) FROM outbox.job_groups WHERE state = 'full'", connection))
            Assert.Equal((long)Groups, await full.ExecuteScalarAsync(Current.CancellationToken));

        await ExecuteAsync(connection, "UPDATE outbox.job_groups SET look_at = look_at - interval '1 hour'; INSERT INTO outbox.jobs (id, kind, args, job_group) VALUES (outbox.new_job_id(), 'number', '{}', 'other')");
        await CallAsync(connection);
        var read = await CountedAsync(connection, "job_groups", ClaimAsync);
        await using var claimed = new NpgsqlCommand("SELECT count(*) FROM outbox.jobs WHERE job_group = 'other' AND lease_token IS NOT NULL", connection);
        Assert.Equal(1L, await claimed.ExecuteScalarAsync(Current.CancellationToken));
        Assert.InRange(read, 1, 100);

        Task ClaimAsync() =>
            ExecuteAsync(connection, $"SELECT FROM outbox.claim_in_turn('default', 200, false, '{{number}}', '{worker}', 0, gen_random_uuid())");
    }

    // A transaction that has locked a row has a number; one that was here before has left its own in the row.
    [Fact]
    public async Task A_group_that_needs_nothing_is_not_locked_though_claims_have_locked_it_before()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var connection = await database.Admin.OpenConnectionAsync(Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database);
        await ExecuteAsync(connection, "INSERT INTO outbox.queues (name, limited, group_concurrency) VALUES ('default', true, 5)");
        await ExecuteAsync(connection, """
            INSERT INTO outbox.jobs (id, kind, args, run_at, job_group)
            SELECT outbox.new_job_id(), 'number', '{}', now() - interval '1 minute', 'group'
            FROM generate_series(1, 10)
            """);
        await CallAsync(connection);
        await ExecuteAsync(connection, $"SELECT FROM outbox.claim_in_turn('default', 2, false, '{{number}}', '{worker}', 0, gen_random_uuid())");
        await using var state = new NpgsqlCommand("SELECT state || ' ' || (xmax <> 0) FROM outbox.job_groups", connection);
        Assert.Equal("ready true", await state.ExecuteScalarAsync(Current.CancellationToken));
        Assert.False(await TakesNumberAsync());

        // One that a claim has locked just now is waited for.
        await using var other = await database.Admin.OpenConnectionAsync(Current.CancellationToken);
        await using var claim = await other.BeginTransactionAsync(Current.CancellationToken);
        await ExecuteAsync(other, "SELECT FROM outbox.job_groups FOR NO KEY UPDATE");
        await ExecuteAsync(connection, "SET lock_timeout = '100ms'");
        foreach (var call in new[] { Free("group"), File })
            Assert.Equal(PostgresErrorCodes.LockNotAvailable, (await Assert.ThrowsAsync<PostgresException>(() => ExecuteAsync(connection, call))).SqlState);

        async Task<bool> TakesNumberAsync()
        {
            await using var transaction = await connection.BeginTransactionAsync(Current.CancellationToken);
            await CallAsync(connection, "group");
            await using var number = new NpgsqlCommand("SELECT pg_current_xact_id_if_assigned() IS NOT NULL", connection);
            return (bool)(await number.ExecuteScalarAsync(Current.CancellationToken))!;
        }
    }

    private const string File = """
        SELECT * FROM outbox.file_groups('default', array_fill('-infinity'::timestamptz, ARRAY[4]), array_fill('00000000-0000-0000-0000-000000000000'::uuid, ARRAY[4]), 10000)
        """;

    private static string Free(string group) => $$"""SELECT outbox.free_groups('{default}', '{ {{group}} }')""";

    private static Task CallAsync(NpgsqlConnection connection, string group = "none") => ExecuteAsync(connection, $"{Free(group)}; {File}");

    private static async Task<long> CountedAsync(NpgsqlConnection connection, string table, Func<Task> work)
    {
        await using var transaction = await connection.BeginTransactionAsync(Current.CancellationToken);
        // What was done before may not have been reported yet.
        var before = await ReadAsync();
        await work();
        var after = await ReadAsync();
        await transaction.CommitAsync(Current.CancellationToken);
        return after - before;

        async Task<long> ReadAsync()
        {
            await using var read = new NpgsqlCommand("SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = $1", connection);
            read.Parameters.Add(new() { Value = table });
            return (long)(await read.ExecuteScalarAsync(Current.CancellationToken))!;
        }
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(Current.CancellationToken);
    }
}
