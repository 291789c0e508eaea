using System.Text.Json;
using System.Text.Json.Nodes;
using Dapper;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobAdmin
{
    /// <summary>Makes a schedule, or makes it over if one of its name exists; a paused one stays paused.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="schedule">When.</param>
    /// <param name="job">The arguments of each of its jobs.</param>
    /// <param name="enqueue">Queue, priority, attempts, headers and group of its jobs. Default: those of the kind, whose delay does not count.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="OutboxException">The schedule cannot be used as it is; the message says why. Nothing was written.</exception>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is. Nothing was written.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    /// <remarks>In a transaction of the application's: <see cref="JobQueue.SetScheduleAsync{TJob}"/>.</remarks>
    public async Task SetScheduleAsync<TJob>(JobSchedule schedule, TJob job, EnqueueOptions? enqueue = null, CancellationToken cancellationToken = default)
        where TJob : IJob
    {
        var scheduled = ScheduledJob.Create(schedule, job, enqueue, queue.Options);
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using var ending = transaction.ConfigureAwait(false);
        await queue.SetScheduleAsync(connection, transaction, scheduled, declared: false, cancellationToken).ConfigureAwait(false);
        var what = new JsonObject { ["schedule"] = schedule.Name, ["cron"] = schedule.Cron, ["every"] = schedule.Every?.ToString(), ["timeZone"] = schedule.TimeZone };
        await NoteAsync(connection, transaction, "set_schedule", 0, what.ToJsonString(), cancellationToken).ConfigureAwait(false);
        await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Lets a schedule enqueue nothing from now on.</summary>
    /// <param name="name">The schedule.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when there is none of this name, or it was paused before.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public Task<bool> PauseScheduleAsync(string name, CancellationToken cancellationToken = default) => ChangeAsync("pause_schedule", name, cancellationToken);

    /// <summary>Lets a paused schedule enqueue again, from its next tick on; the ticks of the pause are not made up for.</summary>
    /// <param name="name">The schedule.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when there is none of this name, or it was not paused.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public Task<bool> ResumeScheduleAsync(string name, CancellationToken cancellationToken = default) => ChangeAsync("resume_schedule", name, cancellationToken);

    /// <summary>Deletes a schedule; jobs that it has enqueued stay. One that an application declares comes back when a worker of it starts.</summary>
    /// <param name="name">The schedule.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when there is none of this name.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public Task<bool> DeleteScheduleAsync(string name, CancellationToken cancellationToken = default) => ChangeAsync("delete_schedule", name, cancellationToken);

    /// <summary>Enqueues a schedule's job now, between its ticks, which stay what they are; also when it is paused.</summary>
    /// <param name="name">The schedule.</param>
    /// <param name="cancellationToken">Cancels the statements.</param>
    /// <returns>The job's id; null when there is no such schedule, or its jobs may not overlap and the last one has not ended.</returns>
    /// <exception cref="OutboxException">Its arguments are encrypted with a key that is not here.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<Guid?> RunScheduleAsync(string name, CancellationToken cancellationToken = default)
    {
        JobName.CheckSchedule(name);
        while (await AskAsync(() => queue.FindScheduleAsync(name, cancellationToken)).ConfigureAwait(false) is { } found)
        {
            var tick = TickOf(found);
            if (await RunAsync(new ScheduleMove(found, [tick], found.LastAt, null), cancellationToken).ConfigureAwait(false))
                return tick.Id;

            // Unless it ticked, or was changed, between the two statements: then once more.
            var now = await AskAsync(() => queue.FindScheduleAsync(name, cancellationToken)).ConfigureAwait(false);
            if ((now?.Version, now?.ChangedAt, now?.LastAt) == (found.Version, found.ChangedAt, found.LastAt))
                return null;
        }

        return null;
    }

    private (DateTime At, Guid Id, string Args) TickOf(DueSchedule schedule)
    {
        try
        {
            return queue.TickOf(schedule, schedule.Now);
        }
        catch (JsonException e)
        {
            throw new OutboxException($"Schedule '{schedule.Name}' cannot be run from here: {e.Message}", e);
        }
    }

    private async Task<bool> RunAsync(ScheduleMove move, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        List<Released> enqueued;
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            enqueued = await AskAsync(() => queue.EnqueueTicksAsync(connection, transaction, [move], keep: true, cancellationToken)).ConfigureAwait(false);
            if (enqueued.Count > 0)
                await NoteAsync(connection, transaction, "run_schedule", 1, Named(move.Schedule.Name), cancellationToken).ConfigureAwait(false);
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        }

        foreach (var (hint, _, _) in enqueued)
            await queue.SendAsync(connection, hint, cancellationToken).ConfigureAwait(false);
        return enqueued.Count > 0;
    }

    private static string Named(string schedule) => new JsonObject { ["schedule"] = schedule }.ToJsonString();

    private async Task<bool> ChangeAsync(string statement, string name, CancellationToken cancellationToken)
    {
        JobName.CheckSchedule(name);
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        await using var ending = transaction.ConfigureAwait(false);
        if (await AskAsync(() => connection.ExecuteScalarAsync<string>(Command(statement, new { name }, cancellationToken, transaction))).ConfigureAwait(false) is null)
            return false;
        await NoteAsync(connection, transaction, statement, 0, Named(name), cancellationToken).ConfigureAwait(false);
        await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        return true;
    }
}
