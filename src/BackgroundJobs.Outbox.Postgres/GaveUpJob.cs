namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A job that died or was cancelled, with its last error.</summary>
public sealed record GaveUpJob
{
    /// <summary>The job.</summary>
    public required Guid Id { get; init; }

    /// <summary>Dead or cancelled.</summary>
    public required JobState State { get; init; }

    /// <summary>Its queue.</summary>
    public required string Queue { get; init; }

    /// <summary>Its kind.</summary>
    public required string Kind { get; init; }

    /// <summary>When, UTC, database clock.</summary>
    public required DateTime FinishedAt { get; init; }

    /// <summary>How many attempts it had.</summary>
    public required int Attempt { get; init; }

    /// <summary>How many failed.</summary>
    public required int Failures { get; init; }

    /// <summary>How many crashed their worker.</summary>
    public required int Crashes { get; init; }

    /// <summary>The type of the last error; null when none was kept.</summary>
    public string? ErrorType { get; init; }

    /// <summary>Its message, up to 500 characters.</summary>
    public string? ErrorMessage { get; init; }
}
