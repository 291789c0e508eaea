using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    // These run on the heartbeat's own thread and connection, synchronously: a thread pool that user code has starved must not cost the lease.
    internal void Register(NpgsqlConnection connection, WorkerRegistration worker)
    {
        using var command = Sql("register_worker").Command(
            connection,
            ("worker", Value(worker.Id)),
            ("name", Value(worker.Name)),
            ("host", Value(worker.Host)),
            ("process_id", Value(worker.ProcessId)),
            ("version", Value(worker.Version)),
            ("lease", Value(worker.Lease)),
            ("queues", Value(worker.Queues)),
            ("kinds", Value(worker.Kinds)));
        At("register");
        command.ExecuteNonQuery();
        At("register answered");
    }

    // A session that runs claims or heartbeats and nothing else can have their settings from the start: one statement less each time.
    internal void OpenIndexed(NpgsqlConnection connection)
    {
        using var command = Sql("use_indexes").Command(connection, ("is_local", Value(false)));
        command.ExecuteNonQuery();
    }

    internal async Task OpenIndexedAsync(NpgsqlConnection connection)
    {
        await using var command = Sql("use_indexes").Command(connection, ("is_local", Value(false)));
        await command.ExecuteNonQueryAsync().ConfigureAwait(false);
    }

    private NpgsqlBatchCommand UseIndexes() => Sql("use_indexes").BatchCommand(("is_local", Value(true)));

    // Null: the worker was declared dead.
    internal Beat? Beat(NpgsqlConnection connection, Guid worker, int running, int stuck, bool stopping, string[] queues, bool indexed = false)
    {
        using var batch = new NpgsqlBatch(connection);
        if (!indexed)
            batch.BatchCommands.Add(UseIndexes());
        batch.BatchCommands.Add(Sql("beat_worker").BatchCommand(
            ("worker", Value(worker)),
            ("running", Value(running)),
            ("stuck", Value(stuck)),
            ("stopping", Value(stopping)),
            ("queues", Value(queues))));
        At("beat");
        using var reader = batch.ExecuteReader();
        At("beat answered");
        if (!indexed)
            reader.NextResult();
        if (!reader.Read())
            return null;
        return new(
            reader.GetBoolean(0),
            reader.GetFieldValue<Guid[]>(1),
            reader.GetBoolean(2),
            reader.GetBoolean(3),
            reader.GetFieldValue<string[]>(4),
            reader.IsDBNull(5) ? null : reader.GetDateTime(5),
            reader.GetDateTime(6),
            reader.IsDBNull(7) ? null : reader.GetDateTime(7),
            reader.GetFieldValue<string[]>(8),
            reader.GetFieldValue<string[]>(9),
            reader.GetBoolean(10),
            reader.GetBoolean(11),
            reader.GetDateTime(12));
    }

    internal void Unregister(NpgsqlConnection connection, Guid worker)
    {
        using var command = Sql("unregister_worker").Command(connection, ("worker", Value(worker)));
        command.ExecuteNonQuery();
    }

    private void At(string point) => options.AtAsync(point).GetAwaiter().GetResult();

    // Declares the expired dead and gives their jobs back, in one transaction; returns what was released, per queue.
    internal async Task<List<Released>> RescueAsync(int maxCrashes, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var batch = new NpgsqlBatch(connection);
        batch.BatchCommands.Add(Sql("mark_dead_workers").BatchCommand());
        batch.BatchCommands.Add(Sql("rescue_jobs").BatchCommand(("max_crashes", Value(maxCrashes))));
        batch.BatchCommands.Add(Sql("forget_dead_workers").BatchCommand());
        await options.AtAsync("rescue").ConfigureAwait(false);
        List<Released> released;
        await using (var reader = await batch.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false))
            released = await ReadReleasedAsync(reader, cancellationToken).ConfigureAwait(false);
        await options.AtAsync("rescue answered").ConfigureAwait(false);

        await TellAsync(connection, released, cancellationToken).ConfigureAwait(false);
        return released;
    }

    internal async Task FinishCancelledAsync(CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        List<Released> ended;
        await using (var command = Sql("finish_cancelled_jobs").Command(connection))
        {
            await using var reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
            ended = await ReadReleasedAsync(reader, cancellationToken).ConfigureAwait(false);
        }

        await TellAsync(connection, ended, cancellationToken).ConfigureAwait(false);
    }

    internal async Task<(int Made, int Dropped)> MaintainHistoryAsync(int daysAhead, TimeSpan retention, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var command = Sql("maintain_history").Command(
            connection, ("days_ahead", Value(daysAhead)), ("retention", Value(retention)));
        await using var reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        await reader.ReadAsync(cancellationToken).ConfigureAwait(false);
        return (reader.GetInt32(0), reader.GetInt32(1));
    }

    internal Task ForgetTicksAsync(TimeSpan retention, CancellationToken cancellationToken) => ForgetAsync("forget_ticks", retention, cancellationToken);

    internal Task ForgetAlongsideAsync(TimeSpan retention, CancellationToken cancellationToken) => ForgetAsync("forget_alongside_jobs", retention, cancellationToken);

    // A pooler hands out its own process id; session state (prepared statements, LISTEN) must not be used through it.
    internal async Task<bool> IsPoolerAsync(CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var command = Sql("detect_pooler").Command(connection);
        return (int)(await command.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false))! != connection.ProcessID;
    }

    private async Task ForgetAsync(string what, TimeSpan retention, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var command = Sql(what).Command(connection, ("retention", Value(retention)));
        await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    // What was released can be claimed, and what it kept its groups from.
    private async Task TellAsync(NpgsqlConnection connection, List<Released> released, CancellationToken cancellationToken)
    {
        var groups = released.SelectMany(each => each.Groups.Select(group => (each.Hint.Queue, (string?)group))).ToList();
        await FreeGroupsAsync(connection, groups).ConfigureAwait(false);
        foreach (var each in released)
            await SendAsync(connection, each.Hint, cancellationToken).ConfigureAwait(false);
    }

    private static async Task<List<Released>> ReadReleasedAsync(NpgsqlDataReader reader, CancellationToken cancellationToken)
    {
        List<Released> released = [];
        do
        {
            while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
                released.Add(new(new JobHint(reader.GetString(0), reader.GetDateTime(1)), reader.GetInt64(2), reader.FieldCount > 3 ? reader.GetFieldValue<string[]>(3) : []));
        }
        while (await reader.NextResultAsync(cancellationToken).ConfigureAwait(false));
        return released;
    }
}
