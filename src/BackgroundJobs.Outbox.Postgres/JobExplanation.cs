namespace BackgroundJobs.Outbox.Postgres;

/// <summary>Why a job is not running.</summary>
public sealed record JobExplanation
{
    /// <summary>The job.</summary>
    public required Guid JobId { get; init; }

    /// <summary>Its state.</summary>
    public required JobState State { get; init; }

    /// <summary>One sentence for people, with moments in UTC: who holds it, what it waits for, or how it ended. No part of its arguments.</summary>
    public required string Why { get; init; }
}
