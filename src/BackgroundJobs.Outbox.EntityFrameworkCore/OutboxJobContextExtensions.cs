using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Steps and completion in the handler's own SaveChanges.</summary>
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

        // Steps are forgotten with the job's completion; and behind it they would find no job.
        var pending = db.GetService<PendingJobs>();
        if (pending.IsKeepingSteps)
            Forget(db, job.Id, _ => true);
        db.Add(new JobCompletion { Id = job.Id, LeaseToken = job.LeaseToken, History = (short)history, Result = context.ResultJson });
        pending.Complete(context.Completion);
        context.Completion.Request();
    }

    /// <summary>
    /// Makes the handler's next SaveChanges keep a step: effect and record are one COMMIT, so the effect happens once. Ask
    /// <see cref="JobContext.TryGetStep{T}"/> before, whether it was done. Fenced: if the lease was lost, SaveChanges throws
    /// <see cref="LeaseLostException"/> and writes nothing.
    /// </summary>
    /// <typeparam name="T">The result; serialises to JSON.</typeparam>
    /// <param name="context">The attempt.</param>
    /// <param name="db">A context on the outbox's database, set up with <c>UseOutbox()</c>.</param>
    /// <param name="name">One step's in this job: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.</param>
    /// <param name="result">What later attempts get; serialised now.</param>
    /// <exception cref="InvalidJobException">No such name is allowed, the result does not serialise, or the job's results are too large together. Nothing was added.</exception>
    /// <exception cref="OutboxException">The context was not set up. Nothing was added.</exception>
    /// <exception cref="InvalidOperationException">The attempt was already told how to end.</exception>
    /// <remarks>
    /// Where the handler opens a transaction itself, save the step last: nobody can rescue the job between that save and the commit, so PostgreSQL ends a
    /// session that does nothing for a minute in between (idle_in_transaction_session_timeout, for this transaction, where it is not shorter).
    /// </remarks>
    public static void SaveStepWith<T>(this JobContext context, DbContext db, string name, T result)
    {
        ArgumentNullException.ThrowIfNull(context);
        OutboxDbContextExtensions.Outbox(db);
        if (context.Completion.Requested || context.Chosen is not null)
            throw new InvalidOperationException($"Job '{context.Kind}' ({context.JobId}) was already told how to end, which ends its steps too. Keep steps before that.");
        var step = new JobStep { Id = context.JobId, LeaseToken = context.Job.LeaseToken, Name = name, Step = context.Steps.Write(name, result) };
        Forget(db, step.Id, other => other.Name == name);
        db.Add(step);
        db.GetService<PendingJobs>().IsKeepingSteps = true;
    }

    // In the tracker, not in the database.
    private static void Forget(DbContext db, Guid jobId, Func<JobStep, bool> which)
    {
        foreach (var step in db.ChangeTracker.Entries<JobStep>().Where(step => step.Entity.Id == jobId && which(step.Entity)).ToList())
            step.State = EntityState.Detached;
    }
}
