namespace BackgroundJobs.Outbox;

/// <summary>A job of a workflow, for others of it to wait for.</summary>
public sealed class WorkflowJob
{
    internal WorkflowJob(Guid id, Guid workflowId)
    {
        Id = id;
        WorkflowId = workflowId;
    }

    /// <summary>The job's id; known before the save.</summary>
    public Guid Id { get; }

    /// <summary>Its workflow.</summary>
    public Guid WorkflowId { get; }

    /// <summary>As a parent whose child runs when it has failed: dead, cancelled or deleted.</summary>
    public JobParent OnFailure => new(this, RunOn.Failure);

    /// <summary>As a parent whose child runs however it has ended.</summary>
    public JobParent Always => new(this, RunOn.Always);

    /// <summary>As a parent whose child runs when it has completed.</summary>
    /// <param name="job">The job.</param>
    public static implicit operator JobParent(WorkflowJob job) => ToJobParent(job);

    /// <summary>As a parent whose child runs when it has completed.</summary>
    /// <param name="job">The job.</param>
    /// <returns>The parent.</returns>
    public static JobParent ToJobParent(WorkflowJob job)
    {
        ArgumentNullException.ThrowIfNull(job);
        return new(job, RunOn.Success);
    }
}
