using System.Text.Json.Nodes;
using Dapper;
using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobAdmin
{
    /// <summary>Sets the limits of a queue on all workers; they hear of it with their next heartbeat. What a worker declares again in its code does not undo it.</summary>
    /// <param name="name">The queue.</param>
    /// <param name="limits">The limits, which replace those it has; null for none, and no turns.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a queue.</exception>
    /// <exception cref="OutboxException">The limits cannot be used as they are; the message names every fault.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task SetLimitsAsync(string name, QueueLimits? limits, CancellationToken cancellationToken = default)
    {
        JobName.CheckQueue(name);
        limits?.Check(name);
        var what = new JsonObject
        {
            ["queue"] = name,
            ["concurrency"] = limits?.Concurrency,
            ["rate"] = Text(limits?.Rate),
            ["groupConcurrency"] = limits?.GroupConcurrency,
            ["groupRate"] = Text(limits?.GroupRate),
            ["groupOrder"] = limits?.GroupOrder.ToString(),
        };
        await ChangeQueueAsync(
            name,
            "limit",
            what,
            async (connection, transaction) =>
            {
                await queue.SetLimitsAsync(connection, transaction, name, limits, null, cancellationToken).ConfigureAwait(false);
                return true;
            },
            cancellationToken).ConfigureAwait(false);

        static string? Text(RateLimit? rate) => rate is null ? null : $"{rate.Jobs} in {rate.Period}";
    }

    /// <summary>Gives one group of a queue with limits a weight or a limit of its own.</summary>
    /// <param name="name">The queue.</param>
    /// <param name="group">The group; it need not have jobs yet. Empty: the jobs without a group, which are one.</param>
    /// <param name="weight">How many turns it gets where others get one: 0.01 to 100. What it has had ahead of the others counts by it too.</param>
    /// <param name="concurrency">How many of its jobs may run at a time, in place of <see cref="QueueLimits.GroupConcurrency"/>: 1 to 10,000. Default: that.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a queue or a group.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A weight or a limit outside of that.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public Task SetGroupAsync(string name, string group, double weight = 1, int? concurrency = null, CancellationToken cancellationToken = default)
    {
        if (!(weight is >= 0.01 and <= 100))
            throw new ArgumentOutOfRangeException(nameof(weight), weight, "A weight goes from 0.01 to 100.");
        if (concurrency is < 1 or > 10_000)
            throw new ArgumentOutOfRangeException(nameof(concurrency), concurrency, "A limit goes from 1 to 10,000.");
        return ChangeGroupAsync(
            "set_group", "set group", name, group, new JsonObject { ["weight"] = weight, ["concurrency"] = concurrency }, new { queue = name, group, weight = (float)weight, concurrency }, cancellationToken);
    }

    /// <summary>Lets no job of one group of a queue with limits start from now on; what runs, runs on, and jobs can still be enqueued.</summary>
    /// <param name="name">The queue.</param>
    /// <param name="group">The group; it need not have jobs yet. Empty: the jobs without a group, which are one.</param>
    /// <param name="until">Until when. Default: until <see cref="ResumeGroupAsync"/>.</param>
    /// <param name="reason">Why, for the next operator.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a queue or a group.</exception>
    /// <exception cref="OutboxException">The reason holds a NUL or half a surrogate pair.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public Task PauseGroupAsync(string name, string group, DateTimeOffset? until = null, string? reason = null, CancellationToken cancellationToken = default) =>
        ChangeGroupAsync(
            "pause_group", "pause group", name, group, new JsonObject { ["until"] = until, ["reason"] = reason },
            new { queue = name, group, until = until?.UtcDateTime, reason = FilterParameters.Text(reason, "the reason") }, cancellationToken);

    /// <summary>
    /// Lets jobs of a paused group start again. In <see cref="GroupOrder.Strict"/> order also passes over the dead job for which the others wait: when
    /// that one is retried later, it runs as any other.
    /// </summary>
    /// <param name="name">The queue.</param>
    /// <param name="group">The group. Empty: the jobs without a group.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when nothing kept it.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a queue or a group.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<bool> ResumeGroupAsync(string name, string group, CancellationToken cancellationToken = default)
    {
        JobName.CheckQueue(name);
        CheckGroup(group);
        return await ChangeQueueAsync(
            name,
            "resume group",
            new JsonObject { ["queue"] = name, ["group"] = group },
            async (connection, transaction) => await AskAsync(() => connection.QuerySingleOrDefaultAsync<TouchedJob>(
                Command("resume_group", new { queue = name, group }, cancellationToken, transaction))).ConfigureAwait(false) is not null,
            cancellationToken).ConfigureAwait(false);
    }

    private Task<bool> ChangeGroupAsync(string statement, string verb, string name, string group, JsonObject what, object values, CancellationToken cancellationToken)
    {
        JobName.CheckQueue(name);
        CheckGroup(group);
        what.Insert(0, "queue", name);
        what.Insert(1, "group", group);
        return ChangeQueueAsync(
            name,
            verb,
            what,
            async (connection, transaction) =>
            {
                await AskAsync(() => connection.ExecuteAsync(Command(statement, values, cancellationToken, transaction))).ConfigureAwait(false);
                return true;
            },
            cancellationToken);
    }

    private static void CheckGroup(string group)
    {
        if (group != "")
            JobName.CheckGroup(group);
    }

    // In one transaction with the note of it; workers look at the queue after the commit. False: nothing was changed.
    private async Task<bool> ChangeQueueAsync(
        string name, string verb, JsonObject what, Func<NpgsqlConnection, NpgsqlTransaction, Task<bool>> change, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            if (!await AskAsync(() => change(connection, transaction)).ConfigureAwait(false))
                return false;
            await NoteAsync(connection, transaction, verb, 0, what.ToJsonString(), cancellationToken).ConfigureAwait(false);
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        }

        await queue.SendAsync(connection, new JobHint(name, queue.Options.TimeProvider.GetUtcNow().UtcDateTime), cancellationToken).ConfigureAwait(false);
        return true;
    }
}
