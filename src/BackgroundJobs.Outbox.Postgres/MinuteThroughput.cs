namespace BackgroundJobs.Outbox.Postgres;

/// <summary>What ended within one minute.</summary>
public sealed record MinuteThroughput
{
    /// <summary>The minute it began, UTC, database clock.</summary>
    public required DateTime Minute { get; init; }

    /// <summary>Jobs that were done.</summary>
    public required long Completed { get; init; }

    /// <summary>Jobs that died.</summary>
    public required long Dead { get; init; }

    /// <summary>Jobs that were cancelled.</summary>
    public required long Cancelled { get; init; }

    /// <summary>True when the query's bound cut this minute off, and more ended in it.</summary>
    public bool AtLeast { get; init; }
}
