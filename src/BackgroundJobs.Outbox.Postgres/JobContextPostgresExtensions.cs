using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>Completion in the handler's own Npgsql transaction.</summary>
public static class JobContextPostgresExtensions
{
    /// <summary>
    /// Completes the job in the handler's transaction: effect and completion are one COMMIT, so the effect happens once. To be called last,
    /// before Commit: until then nobody can rescue the job, so PostgreSQL ends a session that does nothing for a minute in between (its
    /// idle_in_transaction_session_timeout, for this transaction, where it is not shorter).
    /// </summary>
    /// <param name="context">The attempt.</param>
    /// <param name="transaction">The handler's transaction, on a connection to the outbox's database. The caller commits it.</param>
    /// <param name="cancellationToken">Cancels before the statement is sent.</param>
    /// <returns>A task.</returns>
    /// <exception cref="LeaseLostException">The lease was lost, another attempt may be running: roll back, which disposing the transaction does.</exception>
    /// <exception cref="OutboxSchemaException">The connection is to a database without our schema.</exception>
    public static async Task CompleteAsync(this JobContext context, NpgsqlTransaction transaction, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(transaction);
        var connection = transaction.Connection
            ?? throw new OutboxException("The transaction that shall complete the job has ended. Complete the job before Commit.");
        cancellationToken.ThrowIfCancellationRequested();
        context.Completion.Request();
        var history = context.Options.Registry is { } registry && registry.TryFind(context.Kind, out var registration)
            ? registration.Options.History
            : HistoryPolicy.Keep;
        try
        {
            await using var complete = JobQueue.Sql("complete_job", context.Options).Command(
                connection, ("id", Value(context.JobId)), ("lease_token", Value(context.Job.LeaseToken)), ("history", Value((short)history)));
            await context.Options.AtAsync("complete").ConfigureAwait(false);
            await complete.ExecuteNonQueryAsync(CancellationToken.None).ConfigureAwait(false);
            await context.Options.AtAsync("complete answered").ConfigureAwait(false);
        }
        catch (PostgresException e) when (OutboxErrors.Translate(e, context.Options.Schema) is { } clear)
        {
            throw clear;
        }
    }
}
