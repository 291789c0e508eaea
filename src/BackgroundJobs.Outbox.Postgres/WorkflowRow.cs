namespace BackgroundJobs.Outbox.Postgres;

/// <summary>An unfinished workflow, and how far it is. Of each kind of job up to 1,000 are counted.</summary>
public sealed record WorkflowRow
{
    /// <summary>The workflow.</summary>
    public required Guid WorkflowId { get; init; }

    /// <summary>When the first of its unfinished jobs was enqueued, UTC.</summary>
    public DateTime? CreatedAt { get; init; }

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

    /// <summary>True when a count stopped at its bound and there may be more.</summary>
    public bool AtLeast { get; init; }
}
