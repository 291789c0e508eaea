namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A job of a workflow.</summary>
public sealed record WorkflowJobRow
{
    /// <summary>The job.</summary>
    public required Guid JobId { get; init; }

    /// <summary>Where it is.</summary>
    public required JobState State { get; init; }

    /// <summary>Its kind.</summary>
    public required string Kind { get; init; }

    /// <summary>How many attempts it had.</summary>
    public required int Attempt { get; init; }

    /// <summary>A JSON object, <c>{"parent's id": "success" | "failure" | "always"}</c>; <c>{"id": "alongside"}</c>: nothing, it was added while that job ran; null: nothing.</summary>
    public string? DependsOn { get; init; }

    /// <summary>How many of those it still waits for.</summary>
    public required long WaitsFor { get; init; }

    /// <summary>When it ended, UTC; null while it has not.</summary>
    public DateTime? FinishedAt { get; init; }

    /// <summary>What went wrong last; up to 500 characters.</summary>
    public string? LastError { get; init; }
}
