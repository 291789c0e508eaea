using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;
using static Xunit.TestContext;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// Counted, not timed: how many rows of groups are read.
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
        var filed = await CountedAsync(connection, () => CallAsync(connection));
        var filedAgain = await CountedAsync(connection, () => CallAsync(connection));
        await ExecuteAsync(connection, "UPDATE outbox.job_groups SET state = 'full', look_at = now() + interval '1 hour'");
        var freed = await CountedAsync(connection, () => ExecuteAsync(connection, $"""
            SELECT outbox.free_groups(array_fill('default'::text, ARRAY[{Groups}]), (SELECT array_agg('group ' || n) FROM generate_series(1, {Groups}) AS n))
            """));

        Assert.InRange(filed, 0, 4 * Groups);
        Assert.InRange(filedAgain, Groups, 4 * Groups);
        Assert.InRange(freed, Groups, 8 * Groups);
        await using var ready = new NpgsqlCommand("SELECT count(*) FROM outbox.job_groups WHERE state = 'ready'", connection);
        Assert.Equal((long)Groups, await ready.ExecuteScalarAsync(Current.CancellationToken));
    }

    private static Task CallAsync(NpgsqlConnection connection) => ExecuteAsync(connection, """
        SELECT outbox.free_groups('{default}', '{none}');
        SELECT * FROM outbox.file_groups('default', array_fill('-infinity'::timestamptz, ARRAY[4]), array_fill('00000000-0000-0000-0000-000000000000'::uuid, ARRAY[4]), 10000)
        """);

    private static async Task<long> CountedAsync(NpgsqlConnection connection, Func<Task> work)
    {
        await using var transaction = await connection.BeginTransactionAsync(Current.CancellationToken);
        await work();
        await using var read = new NpgsqlCommand("SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'job_groups'", connection);
        var rows = (long)(await read.ExecuteScalarAsync(Current.CancellationToken))!;
        await transaction.CommitAsync(Current.CancellationToken);
        return rows;
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(Current.CancellationToken);
    }
}
