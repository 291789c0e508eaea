using System.Text.Json.Nodes;
using Dapper;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobAdmin
{
    /// <summary>Lets no job of a queue start from now on; what runs, runs on, and jobs can still be enqueued.</summary>
    /// <param name="name">The queue; it need not have jobs yet.</param>
    /// <param name="reason">Why, for the next operator.</param>
    /// <param name="by">Who. Default: the role that is connected to the database.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a queue.</exception>
    /// <exception cref="OutboxException">A text holds a NUL or half a surrogate pair.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task PauseQueueAsync(string name, string? reason = null, string? by = null, CancellationToken cancellationToken = default)
    {
        JobName.CheckQueue(name);
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using var ending = transaction.ConfigureAwait(false);
        var values = new { queue = name, reason = FilterParameters.Text(reason, "the reason"), by = FilterParameters.Text(by, "the name") };
        await AskAsync(() => connection.ExecuteAsync(Command("pause_queue", values, cancellationToken, transaction))).ConfigureAwait(false);
        await NoteAsync(connection, transaction, "pause", 0, new JsonObject { ["queue"] = name, ["reason"] = reason, ["by"] = by }.ToJsonString(), cancellationToken).ConfigureAwait(false);
        await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Lets the jobs of a paused queue start again.</summary>
    /// <param name="name">The queue.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when it was not paused.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a queue.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<bool> ResumeQueueAsync(string name, CancellationToken cancellationToken = default)
    {
        JobName.CheckQueue(name);
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        TouchedJob? resumed;
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            resumed = await AskAsync(() => connection.QuerySingleOrDefaultAsync<TouchedJob>(
                Command("resume_queue", new { queue = name }, cancellationToken, transaction))).ConfigureAwait(false);
            if (resumed is null)
                return false;
            await NoteAsync(connection, transaction, "resume", 0, new JsonObject { ["queue"] = name }.ToJsonString(), cancellationToken).ConfigureAwait(false);
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        }

        await queue.SendAsync(connection, new JobHint(resumed.Queue, resumed.RunAt), cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <summary>The queues that are paused, and why.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>Up to 1,000 of them, by name.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<IReadOnlyList<PausedQueue>> PausedQueuesAsync(CancellationToken cancellationToken = default)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        return (await AskAsync(() => connection.QueryAsync<PausedQueue>(
            Command("list_paused_queues", new { }, cancellationToken))).ConfigureAwait(false)).AsList();
    }
}
