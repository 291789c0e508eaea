using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// The floor of latency: LISTEN, and on a notification one bare claim of one row by its usual statement. Until its standard input ends.
internal static class ListenFloor
{
    public static async Task<object> RunAsync(int kept)
    {
        var began = new long[kept];
        await using var source = NpgsqlDataSource.Create(Role.ConnectionString);
        await using var listening = await source.OpenConnectionAsync();
        await using var claiming = await source.OpenConnectionAsync();
        await using var claim = new NpgsqlCommand(
            """
            UPDATE floor_jobs SET claimed = true
            WHERE id = (SELECT id FROM floor_jobs WHERE NOT claimed ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING id
            """, claiming);
        await claim.PrepareAsync();
        await using (var listen = new NpgsqlCommand("LISTEN floor", listening))
            await listen.ExecuteNonQueryAsync();
        using CancellationTokenSource ended = new();
        _ = Task.Run(Console.In.ReadToEnd).ContinueWith(_ => ended.Cancel(), TaskScheduler.Default);
        Console.WriteLine("ready");
        while (!ended.IsCancellationRequested)
        {
            try
            {
                await listening.WaitAsync(ended.Token);
            }
            catch (OperationCanceledException)
            {
                break;
            }

            while (await claim.ExecuteScalarAsync() is int id)
                began[id] = Role.Monotonic;
        }

        return new { began };
    }
}
