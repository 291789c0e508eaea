using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Completion in the handler's own SaveChanges.</summary>
public static class OutboxJobContextExtensions
{
    /// <summary>
    /// Makes the handler's next SaveChanges complete the job: effect and completion are one COMMIT, so the effect happens once, whatever
    /// crashes. Fenced: if the lease was lost, SaveChanges throws <see cref="LeaseLostException"/> and writes nothing.
    /// </summary>
    /// <param name="context">The attempt.</param>
    /// <param name="db">A context on the outbox's database, set up with <c>UseOutbox()</c>.</param>
    /// <exception cref="OutboxException">The context was not set up.</exception>
    /// <exception cref="InvalidOperationException">The attempt was already told how to end.</exception>
    /// <remarks>
    /// Where the handler opens a transaction itself, it must commit it before it returns; else the attempt counts as failed. Nobody can rescue
    /// the job between that save and the commit, so PostgreSQL ends a session that does nothing for a minute in between
    /// (idle_in_transaction_session_timeout, for this transaction, where it is not shorter).
    /// </remarks>
    public static void CompleteWith(this JobContext context, DbContext db)
    {
        ArgumentNullException.ThrowIfNull(context);
        OutboxDbContextExtensions.Outbox(db);
        if (context.Completion.Requested || context.Chosen is not null)
            throw new InvalidOperationException($"Job '{context.Kind}' ({context.JobId}) was already told how to end. Call CompleteWith once, and nothing else.");
        var history = context.Options.Registry is { } registry && registry.TryFind(context.Kind, out var registration)
            ? registration.Options.History
            : HistoryPolicy.Keep;
        var job = context.Job;

        db.Add(new JobCompletion { Id = job.Id, LeaseToken = job.LeaseToken, History = (short)history, Result = context.ResultJson });
        db.GetService<PendingJobs>().Complete(context.Completion);
        context.Completion.Request();
    }
}
