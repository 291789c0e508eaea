using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox;

/// <summary>
/// Jobs that wait for each other: chains, fans, diamonds. A parent is added before its children, so no circle can be made. It exists as a whole
/// with the commit that its jobs are inserted in: with <c>JobQueue.EnqueueAsync(transaction, workflow.Jobs)</c>, or, on EF Core,
/// as what <c>db.StartWorkflow()</c> gives. Not for several threads at once.
/// </summary>
public sealed class JobWorkflow
{
    private readonly OutboxOptions options;
    private readonly Guid? running;
    private readonly List<NewJob> jobs = [];

    /// <summary>A new workflow.</summary>
    /// <param name="options">The limits and the JSON options. Default: <see cref="OutboxOptions"/> as it is made.</param>
    public JobWorkflow(OutboxOptions? options = null)
        : this(JobId.New((options ?? OutboxOptions.Default).TimeProvider), options ?? OutboxOptions.Default)
    {
    }

    internal JobWorkflow(Guid id, OutboxOptions options, Guid? running = null)
    {
        Id = id;
        this.options = options;
        this.running = running;
    }

    /// <summary>The workflow's id, a UUIDv7: how it is found again.</summary>
    public Guid Id { get; }

    /// <summary>What was added, parents before their children.</summary>
    public IReadOnlyList<NewJob> Jobs => jobs;

    /// <summary>
    /// More jobs for the workflow of a running job, which may be their parent (<see cref="Existing"/>), or beside which they are waited for
    /// (<see cref="AddAlongside"/>).
    /// </summary>
    /// <param name="context">The attempt.</param>
    /// <returns>The workflow, without jobs that are to be inserted.</returns>
    /// <exception cref="InvalidOperationException">The job belongs to no workflow.</exception>
    public static JobWorkflow Continue(JobContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return new(
            context.WorkflowId ?? throw new InvalidOperationException(
                $"Job '{context.Kind}' ({context.JobId}) belongs to no workflow, so no job can be added to it. Start one where the job is enqueued, or a new one here."),
            context.Options,
            context.JobId);
    }

    /// <summary>Adds a job.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="job">The arguments.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind. A moment or a delay is no earlier than the end of its parents.</param>
    /// <param name="after">What it waits for: <c>after: [fetch, .. parts, check.OnFailure]</c>. Nothing: it runs at once.</param>
    /// <returns>The job, for others to wait for.</returns>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is, or a parent is of another workflow. Nothing was added.</exception>
    public WorkflowJob Add<TJob>(TJob job, EnqueueOptions? options = null, params ReadOnlySpan<JobParent> after)
        where TJob : IJob
    {
        var created = NewJob.Create(job, options, this.options, After(TJob.Kind, after));
        jobs.Add(created);
        return new(created.Id, Id);
    }

    /// <summary>
    /// Adds a job that runs at once, and for which those wait too that wait for the job that runs, on its success or always: so a batch grows while
    /// it runs, and its last job comes after all of it.
    /// </summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="job">The arguments.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind. Not <see cref="EnqueueOptions.Unique"/>.</param>
    /// <returns>The job, for others to wait for.</returns>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is. Nothing was added.</exception>
    /// <exception cref="LeaseLostException">From the insert: the attempt no longer owns its job. Nothing was written.</exception>
    /// <exception cref="InvalidOperationException">The workflow was not made by <see cref="Continue"/>, so no job of it runs here.</exception>
    public WorkflowJob AddAlongside<TJob>(TJob job, EnqueueOptions? options = null)
        where TJob : IJob
    {
        var created = NewJob.Create(job, options, this.options, Alongside(TJob.Kind));
        jobs.Add(created);
        return new(created.Id, Id);
    }

    /// <summary>A job that was enqueued in this workflow before, as a parent. That it is there is checked with the insert.</summary>
    /// <param name="id">The job's id.</param>
    /// <returns>The job, for others to wait for.</returns>
    public WorkflowJob Existing(Guid id) => new(id, Id);

    internal WorkflowPlace Alongside(string kind) => running is { } job
        ? new(Id, new JsonObject { [job.ToString()] = "alongside" }.ToJsonString(), IsAlongside: true)
        : throw new InvalidOperationException(
            $"Job '{kind}' cannot be added alongside the job that runs: none does, in workflow {Id}. Continue the workflow of a handler's context, or add the job with the others, and to what waits for it.");

    internal WorkflowPlace After(string kind, ReadOnlySpan<JobParent> after)
    {
        if (after.IsEmpty)
            return new(Id, null);
        JsonObject parents = [];
        foreach (var parent in after)
        {
            if (parent.Job is null || parent.Job.WorkflowId != Id)
                throw new InvalidJobException(
                    $"Job '{kind}' cannot be enqueued: it is to wait for {(parent.Job is null ? "no job" : $"job {parent.Job.Id} of workflow {parent.Job.WorkflowId}")}, and belongs to workflow {Id}. Add both to one workflow.");
            if (!parents.TryAdd(parent.Job.Id.ToString(), Word(parent.On)) && parents[parent.Job.Id.ToString()]!.GetValue<string>() != Word(parent.On))
                throw new InvalidJobException(
                    $"Job '{kind}' cannot be enqueued: it is to wait for job {parent.Job.Id} twice, in different ways. Name a parent once.");
        }

        return new(Id, parents.ToJsonString());
    }

    private static string Word(RunOn on) => on switch
    {
        RunOn.Success => "success",
        RunOn.Failure => "failure",
        _ => "always",
    };
}
