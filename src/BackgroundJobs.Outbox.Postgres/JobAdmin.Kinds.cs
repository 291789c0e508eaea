using System.Text.Json.Nodes;
using Dapper;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobAdmin
{
    /// <summary>
    /// Lets no job of a kind start from now on, on any worker; what runs, runs on, and jobs can still be enqueued. Where groups are in order, one at
    /// the head of its group holds up those behind it.
    /// </summary>
    /// <param name="kind">The kind; no worker need know it.</param>
    /// <param name="reason">Why, for the next operator.</param>
    /// <param name="by">Who. Default: the role that is connected to the database.</param>
    /// <param name="queue">The only queue in which it is paused. Default: all.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a kind, or for a queue.</exception>
    /// <exception cref="OutboxException">A text holds a NUL or half a surrogate pair.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task PauseKindAsync(string kind, string? reason = null, string? by = null, string? queue = null, CancellationToken cancellationToken = default)
    {
        var values = new
        {
            kind = Kind(kind),
            queue = QueueOrAll(queue),
            reason = FilterParameters.Text(reason, "the reason"),
            by = FilterParameters.Text(by, "the name"),
        };
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using var ending = transaction.ConfigureAwait(false);
        await AskAsync(() => connection.ExecuteAsync(Command("pause_kind", values, cancellationToken, transaction))).ConfigureAwait(false);
        var what = new JsonObject { ["kind"] = kind, ["queue"] = queue, ["reason"] = reason, ["by"] = by }.ToJsonString();
        await NoteAsync(connection, transaction, "pause", 0, what, cancellationToken).ConfigureAwait(false);
        await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Lets the jobs of a paused kind start again, at once: workers hear of it.</summary>
    /// <param name="kind">The kind.</param>
    /// <param name="queue">The queue, where it was paused in that one; a pause in all queues stays. Default: the pause in all queues.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when it was not paused there.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a kind, or for a queue.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<bool> ResumeKindAsync(string kind, string? queue = null, CancellationToken cancellationToken = default)
    {
        var values = new { kind = Kind(kind), queue = QueueOrAll(queue) };
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            if (await AskAsync(() => connection.ExecuteAsync(Command("resume_kind", values, cancellationToken, transaction))).ConfigureAwait(false) == 0)
                return false;
            var what = new JsonObject { ["kind"] = kind, ["queue"] = queue }.ToJsonString();
            await NoteAsync(connection, transaction, "resume", 0, what, cancellationToken).ConfigureAwait(false);
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        }

        foreach (var first in await AskAsync(() => connection.QueryAsync<TouchedJob>(Command("list_first_jobs", new { values.queue }, cancellationToken))).ConfigureAwait(false))
            await this.queue.SendAsync(connection, new JobHint(first.Queue, first.RunAt), cancellationToken).ConfigureAwait(false);
        return true;
    }

    private static string Kind(string kind)
    {
        JobName.CheckKind(kind);
        return kind;
    }

    private static string QueueOrAll(string? queue)
    {
        if (queue is not null)
            JobName.CheckQueue(queue);
        return queue ?? "";
    }
}
