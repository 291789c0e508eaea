using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    // Returns the ids that were not ours any more: their attempts were fenced off.
    internal async Task<List<Guid>> FinishAsync(NpgsqlConnection connection, IReadOnlyCollection<FinishedJob> jobs, bool prepare)
    {
        List<Guid> lost = [];
        if (jobs.Count == 0)
            return lost;
        await using var batch = Batch(Sql("use_key"), connection, Sql("finish_jobs").BatchCommand(
            ("ids", Value(Column(jobs, each => each.Job.Id))),
            ("lease_tokens", Value(Column(jobs, each => each.Job.LeaseToken))),
            ("states", Value(Column(jobs, each => each.StateName))),
            ("history", Value(Column(jobs, each => (short)(each.State == JobState.Completed ? each.History : HistoryPolicy.Keep)))),
            ("errors", Value(Sparse(jobs, each => each.Error?.ToJson(each.Job.Attempt)))),
            ("cursors", Value(Sparse(jobs, each => each.Cursor))),
            ("results", Value(Sparse(jobs, each => each.Result))),
            ("limited", Value(jobs.Any(each => each.Job is { Limited: true, InTurn: false })))));
        if (prepare)
            await batch.PrepareAsync().ConfigureAwait(false);
        await options.AtAsync("finish").ConfigureAwait(false);
        await using var reader = await batch.ExecuteReaderAsync().ConfigureAwait(false);
        await reader.NextResultAsync().ConfigureAwait(false);
        while (await reader.ReadAsync().ConfigureAwait(false))
            lost.Add(reader.GetGuid(0));
        await options.AtAsync("finish answered").ConfigureAwait(false);
        return lost;
    }

    // Returns what was given back; who is missing was not ours any more.
    internal async Task<Dictionary<Guid, JobHint>> RescheduleAsync(NpgsqlConnection connection, IReadOnlyCollection<RescheduledJob> jobs)
    {
        Dictionary<Guid, JobHint> given = new(jobs.Count);
        if (jobs.Count == 0)
            return given;
        await using var batch = Batch(Sql("use_key"), connection, Sql("reschedule_jobs").BatchCommand(
            ("ids", Value(Column(jobs, each => each.Job.Id))),
            ("lease_tokens", Value(Column(jobs, each => each.Job.LeaseToken))),
            ("delays", Value(Column(jobs, each => each.Delay is { } delay ? delay.Ticks / TimeSpan.TicksPerMicrosecond : (long?)null))),
            ("failed", Value(Column(jobs, each => (short)(each.Failed ? 1 : 0)))),
            ("errors", Value(Sparse(jobs, each => each.Error?.ToJson(each.Job.Attempt)))),
            ("cursors", Value(Sparse(jobs, each => each.Cursor)))));
        await options.AtAsync("reschedule").ConfigureAwait(false);
        await using var reader = await batch.ExecuteReaderAsync().ConfigureAwait(false);
        await reader.NextResultAsync().ConfigureAwait(false);
        while (await reader.ReadAsync().ConfigureAwait(false))
            given[reader.GetGuid(0)] = new JobHint(reader.GetString(1), reader.GetDateTime(2));
        await options.AtAsync("reschedule answered").ConfigureAwait(false);
        return given;
    }

    internal async Task<HashSet<Guid>> ListLockedAsync(NpgsqlConnection connection, IEnumerable<ClaimedJob> jobs)
    {
        await using var batch = Batch(Sql("use_key"), connection, Sql("list_locked_jobs").BatchCommand(("ids", Value(jobs.Select(each => each.Id).ToArray()))));
        await using var reader = await batch.ExecuteReaderAsync().ConfigureAwait(false);
        await reader.NextResultAsync().ConfigureAwait(false);
        HashSet<Guid> locked = [];
        while (await reader.ReadAsync().ConfigureAwait(false))
            locked.Add(reader.GetGuid(0));
        return locked;
    }

    internal async Task SaveCursorsAsync(NpgsqlConnection connection, IReadOnlyCollection<(ClaimedJob Job, string? Cursor, string? Progress)> running)
    {
        await using var batch = Batch(Sql("use_key"), connection, Sql("save_cursors").BatchCommand(
            ("ids", Value(Column(running, each => each.Job.Id))),
            ("lease_tokens", Value(Column(running, each => each.Job.LeaseToken))),
            ("cursors", Value(Column(running, each => each.Cursor))),
            ("progress", Value(Column(running, each => each.Progress)))));
        await options.AtAsync("save cursors").ConfigureAwait(false);
        await batch.ExecuteNonQueryAsync().ConfigureAwait(false);
    }

    // Not cancellable: the step is done. Throws LeaseLostException when the attempt no longer owns its job.
    internal async Task SaveStepAsync(ClaimedJob job, string name, string step)
    {
        await using var connection = await dataSource.OpenConnectionAsync().ConfigureAwait(false);
        await SaveStepAsync(connection, job, name, step, options).ConfigureAwait(false);
    }

    internal static async Task SaveStepAsync(NpgsqlConnection connection, ClaimedJob job, string name, string step, OutboxOptions options)
    {
        await using var save = Sql("save_step", options).Command(
            connection, ("id", Value(job.Id)), ("lease_token", Value(job.LeaseToken)), ("name", Value(name)), ("step", Value(step)));
        try
        {
            await options.AtAsync("step").ConfigureAwait(false);
            await save.ExecuteNonQueryAsync().ConfigureAwait(false);
            await options.AtAsync("step answered").ConfigureAwait(false);
        }
        catch (PostgresException e) when (OutboxErrors.Translate(e, options.Schema) is { } clear)
        {
            throw clear;
        }
    }

    private static NpgsqlBatch Batch(SqlFile settings, NpgsqlConnection connection, NpgsqlBatchCommand command) =>
        new(connection) { BatchCommands = { settings.BatchCommand(), command } };
}
