using System.Data;
using Npgsql;
using NpgsqlTypes;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    // How many jobs of a queue with limits are looked through for their groups by one claim: some 10 ms.
    private const int MaxSeen = 10_000;

    // How many groups of which it gets nothing one claim looks at (claim_in_turn, migrations/0005): rounds after the first, and groups of each.
    private const int MaxGroups = 9 * 100;

    // Claims for several queues in one round trip. Not cancellable: a claim that was sent may have been done, and its rows would be stranded
    // until the lease ends. Indexed: the session was opened with use_indexes.
    internal async Task<List<ClaimAnswer>> ClaimAsync(NpgsqlConnection connection, IReadOnlyList<ClaimRequest> requests, bool prepare, bool indexed = false)
    {
        // In one order: two workers that have the same queues with limits lock their rows one after the other.
        if (requests.Count > 1)
            requests = [.. requests.OrderBy(each => each.Queue, StringComparer.Ordinal)];

        // Whatever the sessions' default is: where there are limits, what is read after a lock must be what is true then. A claim without limits is one statement.
        var transaction = !indexed && requests.Any(each => each.Limited) ? await connection.BeginTransactionAsync(IsolationLevel.ReadCommitted).ConfigureAwait(false) : null;
        await using var batch = new NpgsqlBatch(connection, transaction);
        if (!indexed)
            batch.BatchCommands.Add(UseIndexes());
        foreach (var request in requests)
            AddClaim(batch.BatchCommands, request);

        if (prepare)
            await batch.PrepareAsync().ConfigureAwait(false);
        await options.AtAsync("claim").ConfigureAwait(false);
        List<ClaimAnswer> answers = [];
        await using (var reader = await batch.ExecuteReaderAsync().ConfigureAwait(false))
        {
            if (!indexed)
                await reader.NextResultAsync().ConfigureAwait(false);
            foreach (var request in requests)
            {
                answers.Add(await ReadAnswerAsync(reader, request).ConfigureAwait(false));
                await reader.NextResultAsync().ConfigureAwait(false);
            }
        }

        if (transaction is not null)
        {
            await transaction.CommitAsync().ConfigureAwait(false);
            await transaction.DisposeAsync().ConfigureAwait(false);
        }

        await options.AtAsync("claim answered").ConfigureAwait(false);
        return answers;
    }

    internal async Task<List<ClaimedJob>> ClaimAsync(ClaimRequest request)
    {
        await using var connection = await dataSource.OpenConnectionAsync().ConfigureAwait(false);
        return (await ClaimAsync(connection, [request], prepare: false).ConfigureAwait(false))[0].Jobs;
    }

    private void AddClaim(NpgsqlBatchCommandCollection batch, ClaimRequest request)
    {
        if (request is { InTurn: true, Suspects: false })
        {
            batch.Add(Sql("file_groups").BatchCommand(
                ("queue", Value(request.Queue)),
                ("after_run_at", Value(request.AfterRunAt, NpgsqlDbType.Array | NpgsqlDbType.TimestampTz)),
                ("after_id", Value(request.AfterId)),
                ("limit", Value(MaxSeen))));
        }

        (string, NpgsqlParameter)[] values =
        [
            ("queue", Value(request.Queue)),
            ("limit", Value(request.Limit)),
            ("suspects", Value(request.Suspects)),
            ("kinds", Value(request.Kinds)),
            ("worker", Value(request.WorkerId)),
            ("epoch", Value(request.Epoch)),
            ("lease_token", Value(request.LeaseToken)),
        ];
        batch.Add(request.InTurn
            ? Sql("claim_in_turn").BatchCommand(values)
            : Sql("claim_jobs").BatchCommand([
                .. values, ("after_run_at", Value(request.AfterRunAt, NpgsqlDbType.Array | NpgsqlDbType.TimestampTz)), ("after_id", Value(request.AfterId))]));
        if (request is { Limited: true, Suspects: false })
        {
            // Asked from the second look in vain on: to count the line costs half a millisecond.
            var looks = request.LooksInVain == 0 ? 0 : request.LooksInVain + 1L;
            batch.Add(Sql("next_look").BatchCommand(("queue", Value(request.Queue)), ("looked_at", Value(looks * MaxGroups))));
        }
    }

    private static async Task<ClaimAnswer> ReadAnswerAsync(NpgsqlDataReader reader, ClaimRequest request)
    {
        ClaimAnswer answer = new(request, []);
        if (request is { InTurn: true, Suspects: false })
        {
            await reader.ReadAsync().ConfigureAwait(false);
            answer.SeenRunAt = reader.GetFieldValue<DateTime[]>(0);
            answer.SeenId = reader.GetFieldValue<Guid[]>(1);
            answer.MoreToSee = reader.GetBoolean(2);
            await reader.NextResultAsync().ConfigureAwait(false);
        }

        var jobs = answer.Jobs;
        while (await reader.ReadAsync().ConfigureAwait(false))
            jobs.Add(Read(reader, request));
        if (request is { Limited: true, Suspects: false } && await reader.NextResultAsync().ConfigureAwait(false) && await reader.ReadAsync().ConfigureAwait(false))
        {
            answer.LookAt = reader.IsDBNull(0) ? null : reader.GetDateTime(0);
            answer.InLine = reader.GetBoolean(1);
            answer.IsLineLonger = reader.GetBoolean(2);
            answer.TakesTurns = reader.GetBoolean(3);
            answer.Now = reader.GetDateTime(4);
        }

        if (request.InTurn)
            return answer;

        // RETURNING has no order of its own; jobs that were never changed come as they were inserted.
        for (var at = 1; at < jobs.Count; at++)
        {
            if (InOrder(jobs[at - 1], jobs[at]) > 0)
            {
                jobs.Sort(InOrder);
                break;
            }
        }

        return answer;

        static int InOrder(ClaimedJob a, ClaimedJob b) => (a.Priority, a.RunAt, a.Id).CompareTo((b.Priority, b.RunAt, b.Id));
    }

    // Gives back what a worker holds and does not know of, and makes its claims void that are still on their way. Its next claims are of this epoch.
    internal async Task<long> ReleaseClaimsAsync(NpgsqlConnection connection, Guid worker, int epoch, IReadOnlyCollection<KeyValuePair<Guid, Guid>> known)
    {
        await options.AtAsync("release").ConfigureAwait(false);
        await using (var retire = Sql("retire_claims").Command(connection, ("worker", Value(worker)), ("epoch", Value(epoch))))
            await retire.ExecuteNonQueryAsync().ConfigureAwait(false);

        List<Released> released;
        await using (var release = Sql("release_claims").Command(connection, ("worker", Value(worker)), ("ids", Value(known.Select(each => each.Key).ToArray())), ("lease_tokens", Value(known.Select(each => each.Value).ToArray()))))
        {
            await using var reader = await release.ExecuteReaderAsync().ConfigureAwait(false);
            released = await ReadReleasedAsync(reader, CancellationToken.None).ConfigureAwait(false);
        }

        await options.AtAsync("release answered").ConfigureAwait(false);
        await TellAsync(connection, released, CancellationToken.None).ConfigureAwait(false);
        return released.Sum(each => each.Jobs);
    }

    private static ClaimedJob Read(NpgsqlDataReader row, ClaimRequest request) => new()
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
        Steps = Text(row, 16),
        Attempt = row.GetInt32(12),
        ClaimedAt = row.GetDateTime(13),
        SavedCursor = Text(row, 14),
        Errors = Text(row, 15),
        WorkflowId = row.IsDBNull(17) ? null : row.GetGuid(17),
        Group = Text(row, 18),
        Limited = request.Limited,
        InTurn = request.InTurn,
        LeaseToken = request.LeaseToken,
        WorkerId = request.WorkerId,
    };

    private static string? Text(NpgsqlDataReader row, int at) => row.IsDBNull(at) ? null : row.GetString(at);
}
