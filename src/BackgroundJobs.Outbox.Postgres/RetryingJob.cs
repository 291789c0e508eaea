namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A job that has failed and will be tried again.</summary>
public sealed record RetryingJob
{
    /// <summary>The job.</summary>
    public required Guid Id { get; init; }

    /// <summary>Its queue.</summary>
    public required string Queue { get; init; }

    /// <summary>Its kind.</summary>
    public required string Kind { get; init; }

    /// <summary>When, UTC, database clock.</summary>
    public required DateTime RunAt { get; init; }

    /// <summary>How long until then.</summary>
    public required TimeSpan DueIn { get; init; }

    /// <summary>How many attempts it had.</summary>
    public required int Attempt { get; init; }

    /// <summary>How many failed.</summary>
    public required int Failures { get; init; }

    /// <summary>How often it may fail.</summary>
    public required int MaxAttempts { get; init; }

    /// <summary>The type of the last error.</summary>
    public string? ErrorType { get; init; }

    /// <summary>Its message, up to 500 characters.</summary>
    public string? ErrorMessage { get; init; }
}
