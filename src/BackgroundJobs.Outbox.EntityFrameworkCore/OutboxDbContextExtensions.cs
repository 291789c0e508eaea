using System.Linq.Expressions;
using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;

namespace Microsoft.EntityFrameworkCore;

/// <summary>The verb an application needs.</summary>
public static class OutboxDbContextExtensions
{
    /// <summary>
    /// Adds a job to the context, as an entity is added: the next SaveChanges inserts it in the same transaction as everything else, and it
    /// exists if and only if that commits.
    /// </summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="db">A context that was set up with <c>UseOutbox()</c>.</param>
    /// <param name="job">The arguments; serialised now.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind. A delay counts from this process's clock.</param>
    /// <returns>The job's id; known now, before the save.</returns>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is. Nothing was added.</exception>
    /// <exception cref="UnknownJobKindException">The application has handlers, but none for this kind. Nothing was added.</exception>
    /// <exception cref="OutboxException">The context was not set up. Nothing was added.</exception>
    /// <remarks>
    /// ExecuteUpdate, ExecuteDelete and raw SQL take effect at once and outside of SaveChanges: put them and the save into one transaction.
    /// </remarks>
    public static Guid Enqueue<TJob>(this DbContext db, TJob job, EnqueueOptions? options = null)
        where TJob : IJob
    {
        var outbox = Outbox(db);
        return Add(db, NewJob.Create(job, options, outbox), outbox).Id;
    }

    /// <summary>
    /// Adds a job whose arguments hold what the database makes, such as an identity key: <c>db.Enqueue(() =&gt; new BootServer(server.Id))</c>.
    /// The factory is evaluated by SaveChanges, with the values that are saved; missing keys are taken from their sequences before, in one
    /// round trip whatever their number.
    /// </summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="db">A context that was set up with <c>UseOutbox()</c>.</param>
    /// <param name="factory">Reads tracked entities of this context. Reads of what cannot be known before the insert are refused by the save.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind.</param>
    /// <returns>The job's id; known now, before the save.</returns>
    /// <exception cref="InvalidJobException">The options are out of range. Nothing was added.</exception>
    /// <exception cref="UnknownJobKindException">The application has handlers, but none for this kind. Nothing was added.</exception>
    /// <exception cref="OutboxException">
    /// The context was not set up; or, by SaveChanges and before anything is written, the factory reads what cannot be known.
    /// </exception>
    /// <remarks>
    /// If an entity that the factory reads is no longer tracked when the context is saved, the job is dropped with it: a job exists if and
    /// only if its data does.
    /// </remarks>
    public static Guid Enqueue<TJob>(this DbContext db, Expression<Func<TJob>> factory, EnqueueOptions? options = null)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(factory);
        var outbox = Outbox(db);
        return AddLate(db, NewJob.CreateLate<TJob>(options, outbox), factory, outbox);
    }

    /// <summary>Begins a workflow: jobs that wait for each other, saved together with everything else that the next SaveChanges saves.</summary>
    /// <param name="db">A context that was set up with <c>UseOutbox()</c>.</param>
    /// <returns>The workflow; its id is known now. Nothing is written for it until a job of it is saved.</returns>
    /// <exception cref="OutboxException">The context was not set up.</exception>
    public static DbWorkflow StartWorkflow(this DbContext db)
    {
        var outbox = Outbox(db);
        return new(db, outbox, new JobWorkflow(outbox));
    }

    /// <summary>
    /// Adds jobs to the workflow of a running job, which may be their parent: <c>flow.Existing(context.JobId)</c>. Together with
    /// <c>context.CompleteWith(db)</c> they exist if and only if the job has completed.
    /// </summary>
    /// <param name="db">A context that was set up with <c>UseOutbox()</c>.</param>
    /// <param name="context">The attempt.</param>
    /// <returns>The workflow.</returns>
    /// <exception cref="OutboxException">The context was not set up.</exception>
    /// <exception cref="InvalidOperationException">The job belongs to no workflow.</exception>
    public static DbWorkflow ContinueWorkflow(this DbContext db, JobContext context) => new(db, Outbox(db), JobWorkflow.Continue(context));

    /// <summary>
    /// The context's open transaction, for what takes an Npgsql one: <c>await queue.SetScheduleAsync(db.NpgsqlTransaction(), ...)</c> makes or changes a
    /// schedule if and only if the context's data commits.
    /// </summary>
    /// <param name="db">A context with a transaction that was begun by <c>db.Database.BeginTransactionAsync()</c> or given to it.</param>
    /// <returns>The transaction. The context's owner commits it.</returns>
    /// <exception cref="OutboxException">The context has no open transaction, or not one of Npgsql.</exception>
    public static NpgsqlTransaction NpgsqlTransaction(this DbContext db)
    {
        ArgumentNullException.ThrowIfNull(db);
        var transaction = db.Database.CurrentTransaction ?? throw new OutboxException(
            $"{db.GetType().Name} has no open transaction, so there is nothing to share. Call db.Database.BeginTransactionAsync() before, and commit after SaveChanges.");
        return transaction.GetDbTransaction() as NpgsqlTransaction ?? throw new OutboxException(
            $"{db.GetType().Name}'s transaction is a {transaction.GetDbTransaction().GetType().Name}, not one of Npgsql. Wrap it no further, or pass its NpgsqlTransaction yourself.");
    }

    internal static OutboxOptions Outbox(DbContext db)
    {
        ArgumentNullException.ThrowIfNull(db);
        return db.GetService<IDbContextOptions>().FindExtension<OutboxOptionsExtension>()?.Options ?? throw new OutboxException(
            $"{db.GetType().Name} cannot enqueue jobs: it was not set up for it. Call UseOutbox() next to UseNpgsql(...) in its options.");
    }

    internal static Guid AddLate<TJob>(DbContext db, NewJob job, Expression<Func<TJob>> factory, OutboxOptions outbox)
        where TJob : IJob
    {
        var row = Add(db, job, outbox);
        row.Args = null;
        var compiled = factory.Compile(preferInterpretation: true);
        db.GetService<PendingJobs>().Bind(new LateJob(row, db, factory.Body, () => NewJob.ArgsOf(compiled(), row.Id, outbox)));
        return row.Id;
    }

    internal static JobRow Add(DbContext db, NewJob job, OutboxOptions outbox)
    {
        var row = JobRow.Of(job, outbox.TimeProvider);
        db.Add(row);
        db.GetService<PendingJobs>().Rows.Add(row);
        return row;
    }
}
