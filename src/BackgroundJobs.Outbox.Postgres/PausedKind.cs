namespace BackgroundJobs.Outbox.Postgres;

/// <summary>A kind whose jobs an operator has paused.</summary>
public sealed record PausedKind
{
    /// <summary>The kind.</summary>
    public required string Kind { get; init; }

    /// <summary>The only queue in which it is paused; null: in all.</summary>
    public string? Queue { get; init; }

    /// <summary>Since when, UTC, database clock.</summary>
    public required DateTime PausedAt { get; init; }

    /// <summary>By whom.</summary>
    public required string PausedBy { get; init; }

    /// <summary>Why.</summary>
    public string? PauseReason { get; init; }
}
