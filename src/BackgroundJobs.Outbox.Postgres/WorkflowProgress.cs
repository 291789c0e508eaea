namespace BackgroundJobs.Outbox.Postgres;

/// <summary>How far a workflow or a batch is. What retention has dropped is not counted.</summary>
public sealed record WorkflowProgress
{
    /// <summary>The workflow.</summary>
    public required Guid WorkflowId { get; init; }

    /// <summary>All its jobs.</summary>
    public required long Total { get; init; }

    /// <summary>Jobs that wait for others of it.</summary>
    public required long Blocked { get; init; }

    /// <summary>Jobs that wait for a worker, for their time, or for their next attempt.</summary>
    public required long Waiting { get; init; }

    /// <summary>Jobs that a worker holds.</summary>
    public required long Running { get; init; }

    /// <summary>Jobs that are done.</summary>
    public required long Completed { get; init; }

    /// <summary>Jobs that were cancelled, also because of a parent.</summary>
    public required long Cancelled { get; init; }

    /// <summary>Jobs that gave up.</summary>
    public required long Dead { get; init; }
}
