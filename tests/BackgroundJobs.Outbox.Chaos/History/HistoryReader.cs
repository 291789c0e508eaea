using System.Globalization;
using BackgroundJobs.Outbox.Chaos.Server;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.History;

// The write-ahead log as the one witness: every committed change, in commit order, and nothing that was rolled back.
internal sealed class HistoryReader(ChaosServer server, Action<Committed> heard) : IDisposable
{
    private const string Slot = "chaos";
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);
    private readonly SemaphoreSlim turn = new(1);
    private ulong last;
    private NpgsqlException? failure;

    public long Transactions { get; private set; }

    public long Entities { get; private set; }

    public Task StartAsync(CancellationToken cancellationToken) => StartAsync(server.Admin, cancellationToken);

    /// <summary>The log ends with its server. While nobody writes, the old one's is read to where the new one took over, and goes on in the new one's.</summary>
    /// <param name="changeOver">Calls <see cref="EndAsync"/> and then <see cref="StartAsync(NpgsqlDataSource, CancellationToken)"/>.</param>
    public async Task FollowAsync(Func<Task> changeOver)
    {
        await turn.WaitAsync();
        try
        {
            await changeOver();
        }
        finally
        {
            turn.Release();
        }
    }

    public async Task EndAsync(NpgsqlDataSource old, ulong tookOverAt)
    {
        while (await ReadAsync(old, tookOverAt) > 0)
        {
        }
    }

    public static async Task StartAsync(NpgsqlDataSource connections, CancellationToken cancellationToken)
    {
        await using var create = connections.CreateCommand($"SELECT pg_create_logical_replication_slot('{Slot}', 'test_decoding')");
        await create.ExecuteNonQueryAsync(cancellationToken);
    }

    // Until it is told to stop, and then to the end of what is there.
    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await ReadInTurnAsync();
            }
            catch (NpgsqlException e)
            {
                // The server is down; the log is not.
                failure = e;
            }

            await Task.Delay(Pause, TimeProvider.System, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        while (await ReadInTurnAsync() > 0)
        {
        }

        if (await server.ScalarAsync<long>("SELECT count(*) FROM entities", CancellationToken.None) is var entities && entities != Entities)
            throw new InvalidOperationException($"The history was not read to its end: {Entities} of {entities} entities. The last failure: {failure?.ToString() ?? "none"}");
        await server.ExecuteAsync($"SELECT pg_drop_replication_slot('{Slot}')", CancellationToken.None);
    }

    // Looked at first and taken off then: what is taken off by a call whose answer is lost nobody has seen.
    private async Task<int> ReadAsync(NpgsqlDataSource connections, ulong atMost)
    {
        var before = last;
        List<Change> changes = [];
        var count = 0;
        await using (var command = connections.CreateCommand(
            $"SELECT lsn - '0/0', xid::text, data FROM pg_logical_slot_peek_changes('{Slot}', NULL, NULL, 'include-timestamp', 'on', 'skip-empty-xacts', 'on')"))
        {
            command.CommandTimeout = 120;
            await using var rows = await command.ExecuteReaderAsync();
            while (await rows.ReadAsync())
            {
                var (lsn, xid, data) = (decimal.ToUInt64(rows.GetDecimal(0)), rows.GetString(1), rows.GetString(2));
                if (data.StartsWith("BEGIN", StringComparison.Ordinal))
                {
                    changes = [];
                }
                else if (!data.StartsWith("COMMIT", StringComparison.Ordinal))
                {
                    changes.Add(Change.Parse(data));
                }
                else if (lsn > last && lsn <= atMost)
                {
                    last = lsn;
                    count++;
                    Transactions++;
                    Entities += changes.Count(each => each is { Table: "public.entities", Kind: ChangeKind.Insert });
                    heard(new Committed(xid, TimeOf(data), changes));
                }
            }
        }

        if (last > before)
        {
            await using var advance = connections.CreateCommand(string.Create(CultureInfo.InvariantCulture, $"SELECT pg_replication_slot_advance('{Slot}', '0/0'::pg_lsn + {last})"));
            await advance.ExecuteNonQueryAsync();
        }

        return count;
    }

    private async Task<int> ReadInTurnAsync()
    {
        await turn.WaitAsync();
        try
        {
            return await ReadAsync(server.Admin, ulong.MaxValue);
        }
        finally
        {
            turn.Release();
        }
    }

    public void Dispose() => turn.Dispose();

    // COMMIT 1234 (at 2026-11-25 02:50:51.123456+00)
    private static DateTimeOffset TimeOf(string data)
    {
        var text = data[(data.IndexOf("(at ", StringComparison.Ordinal) + 4)..^1];
        return DateTimeOffset.Parse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);
    }
}
