using System.Data;
using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    private const int MaxFreed = 1000;

    // Jobs of these groups have ended or were given back: there may be room in them.
    internal async Task FreeGroupsAsync(NpgsqlConnection connection, IReadOnlyCollection<(string Queue, string? Group)> groups)
    {
        if (groups.Count == 0)
            return;
        var each = groups.Distinct().ToList();
        await using var free = Sql("free_groups").Command(
            connection, ("queues", Value(Column(each, one => one.Queue))), ("groups", Value(Column(each, one => one.Group))));
        await options.AtAsync("free groups").ConfigureAwait(false);
        await RunAsync(connection, free).ConfigureAwait(false);
    }

    // Should an end not have been told: its process died at that moment. Returns the queues in which there were such groups, and how many. Pause: how long
    // an end that was recorded just now has to be told, else it would be taken for one.
    internal async Task<List<(string Queue, int Groups)>> FreeMissedGroupsAsync(string[] queues, TimeSpan pause, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        List<(string, int)> freed = [];
        foreach (var name in await ReadAsync("look_for_groups", "queues", Value(queues), row => row.GetString(0)).ConfigureAwait(false))
        {
            var missed = await ListAsync(name).ConfigureAwait(false);
            if (missed.Count == 0)
                continue;
            await options.AtAsync("groups missed").ConfigureAwait(false);
            await Task.Delay(pause, options.TimeProvider, cancellationToken).ConfigureAwait(false);
            missed.IntersectWith(await ListAsync(name).ConfigureAwait(false));
            foreach (var some in missed.Chunk(MaxFreed))
                await FreeGroupsAsync(connection, [.. some.Select(group => (name, (string?)group.Name))]).ConfigureAwait(false);
            if (missed.Count > 0)
                freed.Add((name, missed.Count));
        }

        return freed;

        Task<HashSet<(string Name, string Version)>> ListAsync(string name) =>
            ReadAsync("list_missed_groups", "queue", Value(name), row => (row.GetString(0), row.GetString(1)));

        async Task<HashSet<T>> ReadAsync<T>(string what, string parameter, NpgsqlParameter value, Func<NpgsqlDataReader, T> read)
        {
            await using var command = Sql(what).Command(connection, (parameter, value));
            await using var reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
            HashSet<T> rows = [];
            while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
                rows.Add(read(reader));
            return rows;
        }
    }

    internal async Task PushBackAsync(NpgsqlConnection connection, IReadOnlyCollection<RescheduledJob> jobs)
    {
        if (jobs.Count == 0)
            return;
        await using var push = Sql("push_back").Command(
            connection,
            ("queues", Value(Column(jobs, each => each.Job.Queue))),
            ("groups", Value(Column(jobs, each => each.Job.Group))),
            ("delays", Value(Column(jobs, each => each.Delay!.Value.Ticks / TimeSpan.TicksPerMicrosecond))));
        await options.AtAsync("push back").ConfigureAwait(false);
        await RunAsync(connection, push).ConfigureAwait(false);
    }

    // Whatever the session's default is: both wait for a claim, and then see what it has left.
    private static async Task RunAsync(NpgsqlConnection connection, NpgsqlCommand command)
    {
        var transaction = await connection.BeginTransactionAsync(IsolationLevel.ReadCommitted).ConfigureAwait(false);
        await using var ending = transaction.ConfigureAwait(false);
        await command.ExecuteNonQueryAsync().ConfigureAwait(false);
        await transaction.CommitAsync().ConfigureAwait(false);
    }

    internal async Task ForgetGroupsAsync(CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var forget = Sql("forget_groups").Command(connection);
        await forget.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    // Stores limits that are new or were declared otherwise the last time: what an operator has changed since stays. True: they were stored.
    internal async Task<bool> DeclareLimitsAsync(string name, QueueLimits limits, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        return await SetLimitsAsync(connection, null, name, limits, limits.Fingerprint, cancellationToken).ConfigureAwait(false);
    }

    internal async Task<bool> SetLimitsAsync(
        NpgsqlConnection connection, NpgsqlTransaction? transaction, string name, QueueLimits? limits, string? declared, CancellationToken cancellationToken)
    {
        await using var set = Sql("set_limits").Command(
            connection,
            ("queue", Value(name)),
            ("limited", Value(limits is not null)),
            ("concurrency", Value(limits?.Concurrency)),
            ("rate", Value(limits?.Rate?.Jobs)),
            ("rate_period", Value(limits?.Rate?.Period)),
            ("group_concurrency", Value(limits?.GroupConcurrency)),
            ("group_rate", Value(limits?.GroupRate?.Jobs)),
            ("group_rate_period", Value(limits?.GroupRate?.Period)),
            ("group_order", Value((limits?.GroupOrder ?? GroupOrder.Any) switch { GroupOrder.Fifo => "fifo", GroupOrder.Strict => "strict", _ => "any" })),
            ("declared", Optional(declared)));
        set.Transaction = transaction;
        return (bool)(await set.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false))!;
    }
}
