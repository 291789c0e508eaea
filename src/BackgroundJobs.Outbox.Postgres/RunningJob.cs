namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A job that a worker holds.</summary>
public sealed record RunningJob
{
    /// <summary>The job.</summary>
    public required Guid Id { get; init; }

    /// <summary>Its queue.</summary>
    public required string Queue { get; init; }

    /// <summary>Its kind.</summary>
    public required string Kind { get; init; }

    /// <summary>1 (first) to 4 (last).</summary>
    public required int Priority { get; init; }

    /// <summary>Which attempt this is.</summary>
    public required int Attempt { get; init; }

    /// <summary>Since when, UTC, database clock.</summary>
    public required DateTime ClaimedAt { get; init; }

    /// <summary>How long.</summary>
    public required TimeSpan RunningFor { get; init; }

    /// <summary>The incarnation of the worker.</summary>
    public required Guid WorkerId { get; init; }

    /// <summary>Its name; null when it is gone, and the job about to be rescued.</summary>
    public string? Worker { get; init; }

    /// <summary>Its machine.</summary>
    public string? Host { get; init; }

    /// <summary>Its process on that machine.</summary>
    public int? ProcessId { get; init; }

    /// <summary>How long its lease lasts without another beat; negative when it is over.</summary>
    public TimeSpan? LeaseLeft { get; init; }

    /// <summary>How far it is, 0 to 1, by its own word of up to a second ago; null when it has said nothing. Of an earlier attempt until this one speaks.</summary>
    public double? Progress { get; init; }

    /// <summary>What it is at, by its own word.</summary>
    public string? ProgressText { get; init; }

    /// <summary>When a cancel was asked for, UTC; null when none was.</summary>
    public DateTime? CancelRequestedAt { get; init; }
}
