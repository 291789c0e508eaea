using System.Data;
using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    /// <summary>
    /// Waits until a job has ended, however it ends: completed, dead or cancelled. The caller must have committed what enqueued it. However many
    /// wait in a process, one statement at a time asks for all of them, less and less often the longer they wait: after 20 ms at first, each
    /// second at last.
    /// </summary>
    /// <param name="jobId">The job.</param>
    /// <param name="timeout">For how long.</param>
    /// <param name="cancellationToken">Ends the wait; the job goes on.</param>
    /// <returns>How it ended, and its result.</returns>
    /// <exception cref="TimeoutException">It has not ended in that time; it goes on.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public Task<EndedJob> WaitAsync(Guid jobId, TimeSpan timeout, CancellationToken cancellationToken = default) =>
        waits.ForAsync(jobId, isWorkflow: false, timeout, cancellationToken);

    /// <summary>Waits until no job of a workflow or a batch is unfinished, as <see cref="WaitAsync"/> does for one job. How they ended says <c>JobInspector.WorkflowAsync</c>.</summary>
    /// <param name="workflowId">The workflow.</param>
    /// <param name="timeout">For how long.</param>
    /// <param name="cancellationToken">Ends the wait; the jobs go on.</param>
    /// <returns>A task.</returns>
    /// <exception cref="TimeoutException">They have not ended in that time; they go on.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public Task WaitForWorkflowAsync(Guid workflowId, TimeSpan timeout, CancellationToken cancellationToken = default) =>
        waits.ForAsync(workflowId, isWorkflow: true, timeout, cancellationToken);

    // With ids: of these; without: of any. True: there is more to settle.
    internal async Task<(int Released, bool More)> SettleAsync(NpgsqlConnection connection, Guid[]? ids, CancellationToken cancellationToken)
    {
        await using var settle = Sql("settle_jobs").Command(connection, ("ids", Optional(ids)));
        var (released, more, _, _) = await SettleAsync(connection, settle, "settle", cancellationToken).ConfigureAwait(false);
        return (released, more);
    }

    // Where that has failed: each of those that wait by itself. Says which could not be settled, and of one of them the SQLSTATE.
    internal async Task<(int Released, bool More, Guid[] HeldUp, string? Error)> SettleApartAsync(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        await using var settle = Sql("settle_jobs_apart").Command(connection);
        return await SettleAsync(connection, settle, "settle apart", cancellationToken).ConfigureAwait(false);
    }

    // Compares jobs of unique keys with each other, after their commit. Whatever the sessions' default is: what it reads after it has waited must be
    // what is true then. True: there is more.
    internal async Task<(int Released, bool More)> SettleUniqueAsync(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        var transaction = await connection.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellationToken).ConfigureAwait(false);
        await using var ending = transaction.ConfigureAwait(false);
        await using var settle = Sql("settle_unique_jobs").Command(connection);
        var (released, more, _, _) = await SettleAsync(connection, settle, "settle unique", cancellationToken, transaction).ConfigureAwait(false);
        return (released, more);
    }

    private async Task<(int Released, bool More, Guid[] HeldUp, string? Error)> SettleAsync(
        NpgsqlConnection connection, NpgsqlCommand settle, string point, CancellationToken cancellationToken, NpgsqlTransaction? transaction = null)
    {
        string[]? queues;
        DateTime[]? runAt;
        int released;
        bool more;
        Guid[] heldUp = [];
        string? error = null;
        await options.AtAsync(point).ConfigureAwait(false);
        await using (var reader = await settle.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false))
        {
            await reader.ReadAsync(cancellationToken).ConfigureAwait(false);
            queues = reader.IsDBNull(0) ? null : reader.GetFieldValue<string[]>(0);
            runAt = reader.IsDBNull(1) ? null : reader.GetFieldValue<DateTime[]>(1);
            released = reader.GetInt32(2);
            more = reader.GetBoolean(3);
            if (reader.FieldCount > 4)
                (heldUp, error) = (reader.GetFieldValue<Guid[]>(4), Text(reader, 5));
        }

        if (transaction is not null)
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        await options.AtAsync($"{point} answered").ConfigureAwait(false);
        for (var at = 0; at < queues?.Length; at++)
            await SendAsync(connection, new JobHint(queues[at], runAt![at]), cancellationToken).ConfigureAwait(false);
        return (released, more, heldUp, error);
    }

    internal async Task<IReadOnlyList<EndedJob>> ParentsAsync(ClaimedJob job, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var list = Sql("list_parents").Command(connection, ("id", Value(job.Id)), ("lease_token", Value(job.LeaseToken)));
        await using var reader = await list.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        List<EndedJob> parents = [];
        while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
            parents.Add(ReadEnded(reader, 0, options));
        return parents;
    }

    // Columns: id, kind, state, result, met_id.
    internal static EndedJob ReadEnded(NpgsqlDataReader row, int at, OutboxOptions options) => new(
        row.GetGuid(at),
        Text(row, at + 1),
        Text(row, at + 2) is { } state ? Enum.Parse<JobState>(state, ignoreCase: true) : null,
        Text(row, at + 3),
        row.IsDBNull(at + 4) ? null : row.GetGuid(at + 4),
        options);
}
