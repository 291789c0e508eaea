using System.Diagnostics;
using System.Threading.Channels;
using BackgroundJobs.Outbox.Postgres;
using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// The floor: our own two statements in a bare loop. One connection claims, another records, and nothing happens in between.
internal static class DrainFloor
{
    public static async Task<object> RunAsync(int warmUp, HistoryPolicy history, int batch)
    {
        await using var source = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(Role.ConnectionString) { NoResetOnClose = true }.ConnectionString);
        var worker = Guid.NewGuid();
        await using (var register = source.CreateCommand(
            "INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds) VALUES ($1, 'floor', 'here', 1, '0', '1 hour', '{}', '{noop}')"))
        {
            register.Parameters.Add(Value(worker));
            await register.ExecuteNonQueryAsync();
        }

        var claimed = Channel.CreateBounded<(Guid[] Ids, Guid Token)>(2);
        var watch = Stopwatch.StartNew();
        Task[] both =
        [
            ClaimAsync(source, worker, batch, claimed.Writer),
            RecordAsync(source, history, claimed.Reader, recorded =>
            {
                if (recorded <= warmUp)
                    watch.Restart();
            }),
        ];

        // If one fails the other would wait for it for ever.
        await await Task.WhenAny(both);
        await Task.WhenAll(both);
        await Role.UntilAsync("SELECT NOT EXISTS (SELECT FROM outbox.jobs)");
        return new { seconds = watch.Elapsed.TotalSeconds };
    }

    private static async Task ClaimAsync(NpgsqlDataSource source, Guid worker, int batch, ChannelWriter<(Guid[] Ids, Guid Token)> claimed)
    {
        await using var connection = await source.OpenConnectionAsync();
        var afterRunAt = new DateTime[4];
        var afterId = new Guid[4];
        NpgsqlParameter<Guid> token = new();
        await using var command = SqlFile.Read(typeof(JobQueue).Assembly, "sql/claim_jobs.sql", "outbox").Command(
            connection,
            ("queue", Value("default")),
            ("limit", Value(batch)),
            ("after_run_at", Value(afterRunAt, NpgsqlTypes.NpgsqlDbType.Array | NpgsqlTypes.NpgsqlDbType.TimestampTz)),
            ("after_id", Value(afterId)),
            ("suspects", Value(false)),
            ("kinds", Value(new[] { "noop" })),
            ("worker", Value(worker)),
            ("epoch", Value(0)),
            ("lease_token", token));
        await command.PrepareAsync();
        while (true)
        {
            token.TypedValue = Guid.NewGuid();
            List<Guid> ids = new(batch);
            await using (var reader = await command.ExecuteReaderAsync())
            {
                while (await reader.ReadAsync())
                {
                    var (id, runAt) = (reader.GetGuid(0), reader.GetDateTime(5));
                    if ((runAt, id).CompareTo((afterRunAt[1], afterId[1])) > 0)
                        (afterRunAt[1], afterId[1]) = (runAt, id);
                    ids.Add(id);
                }
            }

            if (ids.Count == 0)
                break;
            await claimed.WriteAsync(([.. ids], token.TypedValue));
        }

        claimed.Complete();
    }

    private static async Task RecordAsync(NpgsqlDataSource source, HistoryPolicy history, ChannelReader<(Guid[] Ids, Guid Token)> claimed, Action<int> recorded)
    {
        var count = 0;
        await using var connection = await source.OpenConnectionAsync();
        NpgsqlParameter<Guid[]> ids = new();
        NpgsqlParameter<Guid[]> tokens = new();
        NpgsqlParameter<string[]> states = new();
        NpgsqlParameter<short[]> histories = new();
        NpgsqlParameter<string?[]> nothing = new();
        NpgsqlParameter<string?[]> nothingElse = new();
        NpgsqlParameter<string?[]> nothingAtAll = new();
        await using var command = SqlFile.Read(typeof(JobQueue).Assembly, "sql/finish_jobs.sql", "outbox").Command(
            connection, ("ids", ids), ("lease_tokens", tokens), ("states", states), ("history", histories), ("errors", nothing), ("cursors", nothingElse), ("results", nothingAtAll),
            ("limited", new NpgsqlParameter<bool> { TypedValue = false }));
        await foreach (var (each, token) in claimed.ReadAllAsync())
        {
            ids.TypedValue = each;
            tokens.TypedValue = new Guid[each.Length];
            Array.Fill(tokens.TypedValue, token);
            states.TypedValue = new string[each.Length];
            Array.Fill(states.TypedValue, "completed");
            histories.TypedValue = new short[each.Length];
            Array.Fill(histories.TypedValue, (short)history);
            nothing.TypedValue = nothingElse.TypedValue = nothingAtAll.TypedValue = [];
            if (!command.IsPrepared)
                await command.PrepareAsync();
            await command.ExecuteNonQueryAsync();
            recorded(count += each.Length);
        }
    }
}
