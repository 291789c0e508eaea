using Npgsql;
using NpgsqlTypes;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    // Claims for several queues in one round trip; jobs come sorted as they are to be started. Not cancellable: a claim that was sent
    // may have been done, and its rows would be stranded until the lease ends.
    internal async Task<List<ClaimedJob>> ClaimAsync(NpgsqlConnection connection, IReadOnlyList<ClaimRequest> requests, bool prepare)
    {
        await using var batch = new NpgsqlBatch(connection);
        foreach (var request in requests)
        {
            batch.BatchCommands.Add(Sql("claim_jobs").BatchCommand(
                ("queue", Value(request.Queue)),
                ("limit", Value(request.Limit)),
                ("after_run_at", Value(request.AfterRunAt, NpgsqlDbType.Array | NpgsqlDbType.TimestampTz)),
                ("after_id", Value(request.AfterId)),
                ("suspects", Value(request.Suspects)),
                ("kinds", Value(request.Kinds)),
                ("worker", Value(request.WorkerId)),
                ("lease_token", Value(Guid.NewGuid()))));
        }

        if (prepare)
            await batch.PrepareAsync().ConfigureAwait(false);
        List<ClaimedJob> jobs = [];
        await using var reader = await batch.ExecuteReaderAsync().ConfigureAwait(false);
        var at = 0;
        do
        {
            var token = ((NpgsqlParameter<Guid>)batch.BatchCommands[at].Parameters[^1]).TypedValue;
            while (await reader.ReadAsync().ConfigureAwait(false))
                jobs.Add(Read(reader, requests[at].WorkerId, token));
            at++;
        }
        while (await reader.NextResultAsync().ConfigureAwait(false));

        // RETURNING has no order of its own.
        jobs.Sort(static (a, b) => (a.Priority, a.RunAt, a.Id).CompareTo((b.Priority, b.RunAt, b.Id)));
        return jobs;
    }

    internal async Task<List<ClaimedJob>> ClaimAsync(ClaimRequest request)
    {
        await using var connection = await dataSource.OpenConnectionAsync().ConfigureAwait(false);
        return await ClaimAsync(connection, [request], prepare: false).ConfigureAwait(false);
    }

    private static ClaimedJob Read(NpgsqlDataReader row, Guid workerId, Guid token) => new()
    {
        Id = row.GetGuid(0),
        Kind = row.GetString(1),
        Args = row.GetFieldValue<byte[]>(2),
        Queue = row.GetString(3),
        Priority = row.GetInt16(4),
        RunAt = row.GetDateTime(5),
        CreatedAt = row.GetDateTime(6),
        Headers = Text(row, 7),
        TraceParent = Text(row, 8),
        MaxAttempts = row.GetInt16(9),
        Failures = row.GetInt16(10),
        Crashes = row.GetInt16(11),
        Attempt = row.GetInt32(12),
        ClaimedAt = row.GetDateTime(13),
        SavedCursor = Text(row, 14),
        Errors = Text(row, 15),
        LeaseToken = token,
        WorkerId = workerId,
    };

    private static string? Text(NpgsqlDataReader row, int at) => row.IsDBNull(at) ? null : row.GetString(at);
}
