namespace BackgroundJobs.Outbox.Postgres;

/// <summary>One worker process.</summary>
public sealed record WorkerRow
{
    /// <summary>Its incarnation: a new one at every start.</summary>
    public required Guid Id { get; init; }

    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Its machine.</summary>
    public required string Host { get; init; }

    /// <summary>Its process on that machine.</summary>
    public required int ProcessId { get; init; }

    /// <summary>The version of its application.</summary>
    public required string Version { get; init; }

    /// <summary>When it started, UTC, database clock.</summary>
    public required DateTime StartedAt { get; init; }

    /// <summary>Its last beat, UTC, database clock.</summary>
    public required DateTime HeartbeatAt { get; init; }

    /// <summary>How long its lease lasts without another beat; negative when it is over.</summary>
    public required TimeSpan LeaseLeft { get; init; }

    /// <summary>Jobs it runs, as of its last beat.</summary>
    public required int Running { get; init; }

    /// <summary>Those of them that ignore their cancellation.</summary>
    public required int Stuck { get; init; }

    /// <summary>True when it claims nothing more and ends what it has.</summary>
    public bool Stopping { get; init; }

    /// <summary>When it was declared dead, UTC.</summary>
    public DateTime? DeadAt { get; init; }

    /// <summary>
    /// JSON: the queues it takes jobs of, and the slots of each: their number, or for queues that share them
    /// <c>{"slots": 20, "sharedBy": ["critical", "low"], "place": 1}</c>, or their <c>weight</c> in place of a <c>place</c>.
    /// </summary>
    public required string Queues { get; init; }

    /// <summary>The kinds it runs.</summary>
    public required string[] Kinds { get; init; }
}
