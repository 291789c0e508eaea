using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>Completion in the handler's own Npgsql transaction.</summary>
public static class JobContextPostgresExtensions
{
    /// <summary>
    /// Completes the job in the handler's transaction: effect and completion are one COMMIT, so the effect happens once. To be called last,
    /// before Commit: it locks nothing that others need, but the row is gone for this transaction.
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
            var lost = await JobQueue.FinishAsync(
                context.Options, connection, [new FinishedJob(context.Job, JobState.Completed, history, null)], prepare: false).ConfigureAwait(false);
            if (lost.Count > 0)
                throw new LeaseLostException(
                    $"Job '{context.Kind}' ({context.JobId}) is not this attempt's any more: its lease ended, and another attempt may be running. "
                    + "Roll the transaction back; nothing else is to be done.");
        }
        catch (PostgresException e) when (OutboxErrors.Translate(e, context.Options.Schema) is { } clear)
        {
            throw clear;
        }
    }
}
