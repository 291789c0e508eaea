namespace BackgroundJobs.Outbox;

/// <summary>A job that another one waits for, and how it must end. Made from a <see cref="WorkflowJob"/>: itself stands for its success.</summary>
public readonly record struct JobParent
{
    internal JobParent(WorkflowJob job, RunOn on)
    {
        Job = job;
        On = on;
    }

    /// <summary>How it must end.</summary>
    public RunOn On { get; }

    // Null: the struct's default.
    internal WorkflowJob? Job { get; }
}
