using BackgroundJobs.Outbox.Chaos.Server;

namespace BackgroundJobs.Outbox.Chaos.Faults;

internal static class NetworkFaults
{
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(10);

    // One to three of them, of one actor: a writer's commits, a worker's statements (its claims, heartbeats and records) or its handlers' commits.
    public static async Task<string?> CommitAsync(Arena arena, Random random, CommitFault fault, bool statements, CancellationToken cancellationToken)
    {
        var actors = statements ? arena.Workers : arena.Everyone.ToList();
        var actor = actors[random.Next(actors.Count)];
        var times = 1 + random.Next(3);
        var before = actor.Proxy.Fired;
        var begin = TimeProvider.System.GetTimestamp();
        actor.Proxy.Arm(fault, statements, times);
        while (actor.Proxy.Fired - before < times && TimeProvider.System.GetElapsedTime(begin) < LongestWait)
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, cancellationToken);
        actor.Proxy.Disarm();
        return actor.Proxy.Fired == before ? null : $"{actor.Name}: {actor.Proxy.Fired - before} times";
    }

    [Fault("W32", "a database call hangs for ever", "every call of the worker has a limit; it goes on")]
    public static Task<string?> WorkerHoleAsync(Arena arena, Random random, CancellationToken cancellationToken) =>
        HoleAsync(arena.Workers[random.Next(arena.Workers.Count)], arena.Options.Lease * (0.5 + random.NextDouble()), cancellationToken);

    public static Task<string?> WriterHoleAsync(Arena arena, Random random, CancellationToken cancellationToken) =>
        HoleAsync(arena.Writers[random.Next(arena.Writers.Count)], TimeSpan.FromSeconds(1 + random.Next(3)), cancellationToken);

    [Fault("P13", "PgBouncer RECONNECT, KILL and RESUME", "as P01")]
    public static async Task<string?> PoolerAsync(Arena arena, string command, CancellationToken cancellationToken)
    {
        if (command != "KILL")
        {
            await arena.Pooler!.CommandAsync(command);
            return "said";
        }

        var database = new Npgsql.NpgsqlConnectionStringBuilder(arena.Server.AdminConnectionString).Database;
        await arena.Pooler!.CommandAsync($"KILL {database}");
        try
        {
            await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System, cancellationToken);
            return $"{arena.PooledWorker!.Name} was cut off, {arena.PooledWorker.Proxy.Connections} connections wait";
        }
        finally
        {
            await arena.Pooler.CommandAsync($"RESUME {database}");
        }
    }

    private static async Task<string?> HoleAsync(Actors.ActorSlot actor, TimeSpan duration, CancellationToken cancellationToken)
    {
        actor.Proxy.OpenHole();
        try
        {
            await Task.Delay(duration, TimeProvider.System, cancellationToken);
            return actor.Proxy.Connections is > 0 and var held ? $"{actor.Name}: {held} connections" : null;
        }
        finally
        {
            actor.Proxy.CloseHole();
        }
    }
}
