using System.Globalization;
using BackgroundJobs.Outbox.Chaos.Server;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Faults;

internal static class ServerFaults
{
    private static readonly TimeSpan DiskFull = TimeSpan.FromSeconds(3);

    [Fault("P02", "immediate stop and restart under load", "what was committed runs once")]
    public static async Task<string?> CrashAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        await arena.Server.StopAsync();
        try
        {
            await Task.Delay(TimeSpan.FromSeconds(random.NextDouble() * 2), TimeProvider.System, cancellationToken);
        }
        finally
        {
            await arena.Server.StartAgainAsync();
            arena.WasUpAgain();
        }

        return "stopped without a checkpoint, and recovered";
    }

    // The server takes every other session down with it, and recovers.
    [Fault("P03", "a backend is killed with -9", "the same")]
    public static async Task<string?> KillBackendAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        await using var victim = await arena.Server.SessionAsync(cancellationToken: cancellationToken);
        var before = await arena.Server.ScalarAsync<DateTime>("SELECT pg_postmaster_start_time()", cancellationToken);
        Signals.Send(victim.ProcessID, Signals.Kill);
        var begin = TimeProvider.System.GetTimestamp();
        while (TimeProvider.System.GetElapsedTime(begin) < TimeSpan.FromSeconds(30))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, cancellationToken);
            try
            {
                // The victim's session is gone, and the same postmaster answers again.
                if (await arena.Server.ScalarAsync<bool>($"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {victim.ProcessID})", cancellationToken))
                {
                    arena.WasUpAgain();
                    var after = await arena.Server.ScalarAsync<DateTime>("SELECT pg_postmaster_start_time()", cancellationToken);
                    return before == after ? string.Create(CultureInfo.InvariantCulture, $"recovered after {TimeProvider.System.GetElapsedTime(begin).TotalSeconds:0.0} s") : null;
                }
            }
            catch (NpgsqlException)
            {
                // It is still recovering.
            }
        }

        return null;
    }

    [Fault("P08", "the disk is full for a while", "clean errors, and it goes on when there is room")]
    public static async Task<string?> FillDiskAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        await arena.Disk!.FillAsync();
        try
        {
            await Task.Delay(DiskFull, TimeProvider.System, cancellationToken);
            await arena.Server.ExecuteAsync("INSERT INTO probe SELECT string_agg(md5(n::text), '') FROM generate_series(1, 100000) AS n", cancellationToken);
            return null;
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.DiskFull)
        {
            return "an insert was refused with 53100";
        }
        finally
        {
            arena.Disk.Clear();
        }
    }
}
