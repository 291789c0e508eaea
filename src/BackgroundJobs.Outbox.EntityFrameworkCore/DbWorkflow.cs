using System.Linq.Expressions;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

/// <summary>
/// Jobs that wait for each other, added to a context as entities are: the next SaveChanges inserts them in the same transaction as everything
/// else. From <c>db.StartWorkflow()</c> or <c>db.ContinueWorkflow(context)</c>. As little for several threads as its context.
/// </summary>
public sealed class DbWorkflow
{
    private readonly DbContext db;
    private readonly OutboxOptions outbox;
    private readonly JobWorkflow workflow;

    internal DbWorkflow(DbContext db, OutboxOptions outbox, JobWorkflow workflow)
    {
        this.db = db;
        this.outbox = outbox;
        this.workflow = workflow;
    }

    /// <summary>The workflow's id, a UUIDv7: how it is found again.</summary>
    public Guid Id => workflow.Id;

    /// <summary>Adds a job to the context and to the workflow.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="job">The arguments; serialised now.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind. A moment or a delay is no earlier than the end of its parents.</param>
    /// <param name="after">What it waits for: <c>after: [fetch, .. parts, check.OnFailure]</c>. Nothing: it runs at once.</param>
    /// <returns>The job, for others to wait for; its id is known now, before the save.</returns>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is, or a parent is of another workflow. Nothing was added.</exception>
    /// <exception cref="UnknownJobKindException">The application has handlers, but none for this kind. Nothing was added.</exception>
    public WorkflowJob Enqueue<TJob>(TJob job, EnqueueOptions? options = null, params ReadOnlySpan<JobParent> after)
        where TJob : IJob
    {
        var created = NewJob.Create(job, options, outbox, workflow.After(TJob.Kind, after));
        OutboxDbContextExtensions.Add(db, created, outbox);
        return workflow.Existing(created.Id);
    }

    /// <summary>Adds a job whose arguments hold what the database makes, as <c>db.Enqueue(() =&gt; ...)</c> does.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="factory">Reads tracked entities of this context.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind.</param>
    /// <param name="after">What it waits for. Nothing: it runs at once.</param>
    /// <returns>The job, for others to wait for.</returns>
    /// <exception cref="InvalidJobException">The options are out of range, or a parent is of another workflow. Nothing was added.</exception>
    /// <exception cref="UnknownJobKindException">The application has handlers, but none for this kind. Nothing was added.</exception>
    public WorkflowJob Enqueue<TJob>(Expression<Func<TJob>> factory, EnqueueOptions? options = null, params ReadOnlySpan<JobParent> after)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(factory);
        var created = NewJob.CreateLate<TJob>(options, outbox, workflow.After(TJob.Kind, after));
        OutboxDbContextExtensions.AddLate(db, created, factory, outbox);
        return workflow.Existing(created.Id);
    }

    /// <summary>
    /// Adds a job that runs at once, and for which those wait too that wait for the job that runs, on its success or always: so a batch grows while
    /// it runs, and its last job comes after all of it. Only where <c>db.ContinueWorkflow(context)</c> has made the workflow.
    /// </summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="job">The arguments; serialised now.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind. Not <see cref="EnqueueOptions.Unique"/>.</param>
    /// <returns>The job, for others to wait for; its id is known now, before the save.</returns>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is. Nothing was added.</exception>
    /// <exception cref="LeaseLostException">From the save: the attempt no longer owns its job. Nothing was written.</exception>
    /// <exception cref="UnknownJobKindException">The application has handlers, but none for this kind. Nothing was added.</exception>
    /// <exception cref="InvalidOperationException">The workflow was started here, so no job of it runs here.</exception>
    public WorkflowJob EnqueueAlongside<TJob>(TJob job, EnqueueOptions? options = null)
        where TJob : IJob
    {
        var created = NewJob.Create(job, options, outbox, workflow.Alongside(TJob.Kind));
        OutboxDbContextExtensions.Add(db, created, outbox);
        return workflow.Existing(created.Id);
    }

    /// <summary>Adds such a job whose arguments hold what the database makes, as <c>db.Enqueue(() =&gt; ...)</c> does.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="factory">Reads tracked entities of this context.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind. Not <see cref="EnqueueOptions.Unique"/>.</param>
    /// <returns>The job, for others to wait for.</returns>
    /// <exception cref="InvalidJobException">The options are out of range. Nothing was added.</exception>
    /// <exception cref="LeaseLostException">From the save: the attempt no longer owns its job. Nothing was written.</exception>
    /// <exception cref="UnknownJobKindException">The application has handlers, but none for this kind. Nothing was added.</exception>
    /// <exception cref="InvalidOperationException">The workflow was started here, so no job of it runs here.</exception>
    public WorkflowJob EnqueueAlongside<TJob>(Expression<Func<TJob>> factory, EnqueueOptions? options = null)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(factory);
        var created = NewJob.CreateLate<TJob>(options, outbox, workflow.Alongside(TJob.Kind));
        OutboxDbContextExtensions.AddLate(db, created, factory, outbox);
        return workflow.Existing(created.Id);
    }

    /// <summary>A job that was enqueued in this workflow before, as a parent. That it is there is checked with the insert.</summary>
    /// <param name="id">The job's id.</param>
    /// <returns>The job, for others to wait for.</returns>
    public WorkflowJob Existing(Guid id) => workflow.Existing(id);
}
