using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Faults;

internal static class SessionFaults
{
    private static readonly TimeSpan LockHeld = TimeSpan.FromSeconds(1.5);
    private static readonly TimeSpan SnapshotHeld = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan SlotsHeld = TimeSpan.FromSeconds(2);

    /// <summary>What a session is there for, seen by its application's name and its last statement.</summary>
    public sealed record Role(string Name, string Application, string Statement);

    public static IReadOnlyList<Role> Roles { get; } =
    [
        new("claims", "outbox worker%", "%quota AS MATERIALIZED%"),
        new("heartbeats", "outbox worker%", "%SET heartbeat_at%"),
        new("records", "outbox worker%", "%AS t (id, lease_token,%"),
        new("listeners", "outbox worker%", "LISTEN%"),
        new("handlers", "handler%", "%"),
        new("writers", "writer%", "%"),
        new("everybody's", "%", "%"),
    ];

    [Fault("P01", "pg_terminate_backend of sessions by role", "goes on within a lease")]
    public static async Task<string?> TerminateAsync(Arena arena, Role role, CancellationToken cancellationToken)
    {
        await using var command = arena.Server.Admin.CreateCommand("""
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
            FROM pg_stat_activity
            WHERE datname = current_database()
              AND backend_type = 'client backend'
              AND application_name LIKE $1
              AND application_name <> 'chaos'
              AND query LIKE $2
            """);
        command.Parameters.AddWithValue(role.Application);
        command.Parameters.AddWithValue(role.Statement);
        var begin = TimeProvider.System.GetTimestamp();

        // A heartbeat's or a record's session may just have said something else, or not be there between two faults.
        while (TimeProvider.System.GetElapsedTime(begin) < TimeSpan.FromSeconds(3))
        {
            if (await command.ExecuteScalarAsync(cancellationToken) is > 0L and var ended)
                return $"{ended} sessions";
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, cancellationToken);
        }

        return null;
    }

    public static async Task<string?> LockTableAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        await using var session = await arena.Server.SessionAsync(cancellationToken: cancellationToken);
        await using (await session.BeginTransactionAsync(cancellationToken))
        {
            await using (var locking = new NpgsqlCommand("LOCK TABLE outbox.jobs IN ACCESS EXCLUSIVE MODE", session))
                await locking.ExecuteNonQueryAsync(cancellationToken);
            await Task.Delay(LockHeld * (1 + random.NextDouble()), TimeProvider.System, cancellationToken);
            await using var waiting = new NpgsqlCommand("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'outbox.jobs'::regclass", session);
            return await waiting.ExecuteScalarAsync(cancellationToken) is > 0L and var count ? $"{count} sessions waited" : null;
        }
    }

    [Fault("P16", "a snapshot is held under load", "nothing lost")]
    public static async Task<string?> HoldSnapshotAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        await using var session = await arena.Server.SessionAsync(cancellationToken: cancellationToken);
        await using (await session.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead, cancellationToken))
        {
            await using (var first = new NpgsqlCommand("SELECT count(*) FROM outbox.jobs", session))
                await first.ExecuteScalarAsync(cancellationToken);
            await Task.Delay(SnapshotHeld, TimeProvider.System, cancellationToken);
            await using var age = new NpgsqlCommand("SELECT age(backend_xmin) FROM pg_stat_activity WHERE pid = pg_backend_pid()", session);
            return await age.ExecuteScalarAsync(cancellationToken) is > 0 and var transactions ? $"{transactions} transactions behind" : null;
        }
    }

    [Fault("P11", "every connection slot is taken", "waits and goes on")]
    public static async Task<string?> UseUpConnectionsAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        List<NpgsqlConnection> taken = [];
        try
        {
            while (true)
                taken.Add(await arena.Server.SessionAsync(asActor: true, cancellationToken));
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.TooManyConnections)
        {
            // Who loses a connection now gets no other.
            var ended = await TerminateAsync(arena, Roles[random.Next(Roles.Count - 1)], cancellationToken);
            await Task.Delay(SlotsHeld, TimeProvider.System, cancellationToken);
            return $"{taken.Count} more connections were all there were; then ended {ended ?? "none"}";
        }
        finally
        {
            foreach (var connection in taken)
                await connection.DisposeAsync();
        }
    }
}
