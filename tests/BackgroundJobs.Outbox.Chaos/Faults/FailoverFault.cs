using System.Globalization;
using BackgroundJobs.Outbox.Chaos.History;
using BackgroundJobs.Outbox.Chaos.Server;

namespace BackgroundJobs.Outbox.Chaos.Faults;

// The primary dies and a synchronous standby takes its place, on the same address. Synchronous: what was answered must be there afterwards. (What
// a standby loses that is not, is in FailoverTests: no witness could tell it from what must not be lost.)
internal static class FailoverFault
{
    private static readonly TimeSpan Followed = TimeSpan.FromSeconds(30);

    [Fault("P04", "the primary dies under load and a synchronous standby is promoted", "what was answered is there, and runs once")]
    public static async Task<string?> PromoteAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        var server = arena.Server;
        var standby = await server.BaseBackupAsync();
        var (port, oldPort) = (FreePort.Find(), FreePort.Find());
        var tookOver = false;
        await server.StartAsync(standby, port);
        try
        {
            await server.ExecuteAsync("ALTER SYSTEM SET synchronous_standby_names = '*'", cancellationToken);
            await server.ExecuteAsync("SELECT pg_reload_conf()", cancellationToken);
            var begin = TimeProvider.System.GetTimestamp();
            while (!await server.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')", cancellationToken))
            {
                if (TimeProvider.System.GetElapsedTime(begin) > Followed)
                    return null;
                await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, cancellationToken);
            }

            // Commits that were under way when the setting came may still be answered without the standby's word.
            await Task.Delay(TimeSpan.FromSeconds(1 + random.NextDouble()), TimeProvider.System, cancellationToken);
            await arena.History.FollowAsync(async () =>
            {
                var old = server.Data;
                await server.StopAsync();
                await server.PromoteAsync(standby);
                tookOver = true;
                await server.StartAsync(old, oldPort, "-c synchronous_standby_names=");
                await using (var connections = server.AdminAt(oldPort))
                    await arena.History.EndAsync(connections, await ChaosServer.TookOverAtAsync(standby));
                await server.StopAsync(old);
                await using (var connections = server.AdminAt(port))
                    await HistoryReader.StartAsync(connections, cancellationToken);
                await server.StopAsync(standby);
                await server.StartAgainAsync(standby);
                await server.BecomeAsync(standby);
            });
            arena.WasUpAgain();
            return string.Create(CultureInfo.InvariantCulture, $"took over {TimeProvider.System.GetElapsedTime(begin).TotalSeconds:0.0} s after it began to follow");
        }
        finally
        {
            if (!tookOver)
                await ForgetAsync(arena, standby);
        }
    }

    private static async Task ForgetAsync(Arena arena, string standby)
    {
        await arena.Server.ExecuteAsync("ALTER SYSTEM RESET synchronous_standby_names", CancellationToken.None);
        await arena.Server.ExecuteAsync("SELECT pg_reload_conf()", CancellationToken.None);
        await arena.Server.StopAsync(standby);
        await arena.Server.RemoveAsync(standby);
    }
}
