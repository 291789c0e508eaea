using Npgsql;

namespace BackgroundJobs.Outbox.Worker;

internal static class ServerErrors
{
    // After a switchover the old primary may live on and only read: its sessions answer, and would be handed out for ever. Npgsql takes the
    // error for one of the statement, not of the session. New sessions go where the connection string leads by then.
    public static void LeaveReadOnlyServer(this NpgsqlDataSource connections, Exception exception)
    {
        if (exception is PostgresException { SqlState: PostgresErrorCodes.ReadOnlySqlTransaction })
            connections.Clear();
    }
}
