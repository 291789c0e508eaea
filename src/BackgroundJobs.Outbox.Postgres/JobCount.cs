namespace BackgroundJobs.Outbox.Postgres;

/// <summary>How many jobs of a queue are in a state.</summary>
public sealed record JobCount
{
    /// <summary>The queue.</summary>
    public required string Queue { get; init; }

    /// <summary>The state.</summary>
    public required JobState State { get; init; }

    /// <summary>How many were counted.</summary>
    public required long Jobs { get; init; }

    /// <summary>True when the count stopped at its bound and there may be more.</summary>
    public bool AtLeast { get; init; }
}
