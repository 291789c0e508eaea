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
            ("errors", Value(Column(jobs, each => each.Error?.ToJson(each.Job.Attempt)))),
            ("cursors", Value(Column(jobs, each => each.Cursor)))));
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
            ("errors", Value(Column(jobs, each => each.Error?.ToJson(each.Job.Attempt)))),
            ("cursors", Value(Column(jobs, each => each.Cursor)))));
        await options.AtAsync("reschedule").ConfigureAwait(false);
        await using var reader = await batch.ExecuteReaderAsync().ConfigureAwait(false);
        await reader.NextResultAsync().ConfigureAwait(false);
        while (await reader.ReadAsync().ConfigureAwait(false))
            given[reader.GetGuid(0)] = new JobHint(reader.GetString(1), reader.GetDateTime(2));
        await options.AtAsync("reschedule answered").ConfigureAwait(false);
        return given;
    }

    internal async Task SaveCursorsAsync(NpgsqlConnection connection, IReadOnlyCollection<(ClaimedJob Job, string Cursor)> running)
    {
        await using var batch = Batch(Sql("use_key"), connection, Sql("save_cursors").BatchCommand(
            ("ids", Value(Column(running, each => each.Job.Id))),
            ("lease_tokens", Value(Column(running, each => each.Job.LeaseToken))),
            ("cursors", Value(Column(running, each => each.Cursor)))));
        await options.AtAsync("save cursors").ConfigureAwait(false);
        await batch.ExecuteNonQueryAsync().ConfigureAwait(false);
    }

    private static NpgsqlBatch Batch(SqlFile settings, NpgsqlConnection connection, NpgsqlBatchCommand command) =>
        new(connection) { BatchCommands = { settings.BatchCommand(), command } };
}
