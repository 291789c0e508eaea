namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A kind whose jobs fail.</summary>
public sealed record FailingKind
{
    /// <summary>The kind.</summary>
    public required string Kind { get; init; }

    /// <summary>Jobs that died in the last 24 hours.</summary>
    public required long Dead { get; init; }

    /// <summary>Jobs that wait for another attempt.</summary>
    public required long Retrying { get; init; }

    /// <summary>When the newest of these errors was, UTC, database clock.</summary>
    public DateTime? LastFailedAt { get; init; }

    /// <summary>Its type.</summary>
    public string? ErrorType { get; init; }

    /// <summary>Its message, up to 500 characters.</summary>
    public string? ErrorMessage { get; init; }
}
