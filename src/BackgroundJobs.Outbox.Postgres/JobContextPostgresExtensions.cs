using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>Steps and completion in the handler's own Npgsql transaction.</summary>
public static class JobContextPostgresExtensions
{
    /// <summary>
    /// Keeps a step in the handler's transaction: its effect and its record are one COMMIT, so the effect happens once. To be called last, before
    /// Commit, as <see cref="CompleteAsync"/>. Ask <see cref="JobContext.TryGetStep{T}"/> before, whether it was done.
    /// </summary>
    /// <typeparam name="T">The result; serialises to JSON.</typeparam>
    /// <param name="context">The attempt.</param>
    /// <param name="transaction">The handler's transaction, on a connection to the outbox's database. The caller commits it.</param>
    /// <param name="name">One step's in this job: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.</param>
    /// <param name="result">What later attempts get.</param>
    /// <param name="cancellationToken">Cancels before the statement is sent.</param>
    /// <returns>A task.</returns>
    /// <exception cref="LeaseLostException">The lease was lost, another attempt may be running: roll back, which disposing the transaction does.</exception>
    /// <exception cref="InvalidJobException">No such name is allowed, the result does not serialise, or the job's results are too large together.</exception>
    /// <exception cref="OutboxSchemaException">The connection is to a database without our schema.</exception>
    public static async Task SaveStepAsync<T>(this JobContext context, NpgsqlTransaction transaction, string name, T result, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(transaction);
        var connection = transaction.Connection
            ?? throw new OutboxException("The transaction that shall keep the step has ended. Keep the step before Commit.");
        cancellationToken.ThrowIfCancellationRequested();
        await JobQueue.SaveStepAsync(connection, context.Job, name, context.Steps.Write(name, result), context.Options).ConfigureAwait(false);
    }

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
                connection, ("id", Value(context.JobId)), ("lease_token", Value(context.Job.LeaseToken)), ("history", Value((short)history)), ("result", Optional(context.ResultJson)));
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
