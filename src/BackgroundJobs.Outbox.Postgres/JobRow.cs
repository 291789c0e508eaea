namespace BackgroundJobs.Outbox.Postgres;

/// <summary>One job as it is stored.</summary>
public sealed record JobRow
{
    /// <summary>The job.</summary>
    public required Guid Id { get; init; }

    /// <summary>Where it is.</summary>
    public required JobState State { get; init; }

    /// <summary>Its queue.</summary>
    public required string Queue { get; init; }

    /// <summary>Its kind.</summary>
    public required string Kind { get; init; }

    /// <summary>1 (first) to 4 (last).</summary>
    public required int Priority { get; init; }

    /// <summary>Not before this moment, UTC, database clock.</summary>
    public required DateTime RunAt { get; init; }

    /// <summary>Its group; null: it has none.</summary>
    public string? JobGroup { get; init; }

    /// <summary>Its workflow; null when it was enqueued by itself.</summary>
    public Guid? WorkflowId { get; init; }

    /// <summary>What it left for others, as JSON (or encrypted); null: nothing.</summary>
    public string? Result { get; init; }

    /// <summary>The key of its <see cref="UniqueJob"/>; null: it has none.</summary>
    public string? UniqueKey { get; init; }

    /// <summary>The job in whose favour it was not run, because of its unique key.</summary>
    public Guid? MetId { get; init; }

    /// <summary>When it was enqueued, UTC.</summary>
    public required DateTime CreatedAt { get; init; }

    /// <summary>When its last attempt began, UTC.</summary>
    public DateTime? ClaimedAt { get; init; }

    /// <summary>When it ended, UTC; null while it has not.</summary>
    public DateTime? FinishedAt { get; init; }

    /// <summary>How many attempts it had; never goes down.</summary>
    public required int Attempt { get; init; }

    /// <summary>How many failed since it was enqueued or retried by an operator.</summary>
    public required int Failures { get; init; }

    /// <summary>How many crashed their worker.</summary>
    public required int Crashes { get; init; }

    /// <summary>How often it may fail.</summary>
    public required int MaxAttempts { get; init; }

    /// <summary>The incarnation of the worker that holds it or ended it.</summary>
    public Guid? WorkerId { get; init; }

    /// <summary>When a cancel was asked for, UTC.</summary>
    public DateTime? CancelRequestedAt { get; init; }

    /// <summary>The arguments as JSON; null when its kind keeps none.</summary>
    public string? Args { get; init; }

    /// <summary>The headers as JSON.</summary>
    public string? Headers { get; init; }

    /// <summary>The W3C trace context of the enqueuer.</summary>
    public string? TraceParent { get; init; }

    /// <summary>Where the next attempt starts, as JSON.</summary>
    public string? SavedCursor { get; init; }

    /// <summary>The newest errors, oldest first, as a JSON array.</summary>
    public string? Errors { get; init; }
}
