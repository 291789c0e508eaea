namespace BackgroundJobs.Outbox;

// One row as the claim returns it. The lease token is the right to write: every later statement about this attempt carries it.
internal sealed record ClaimedJob
{
    public required Guid Id { get; init; }

    public required string Kind { get; init; }

    // JSON, UTF-8 as it came over the wire: read once, straight into the handler's type.
    public required byte[] Args { get; init; }

    public required string Queue { get; init; }

    public required short Priority { get; init; }

    public required DateTime RunAt { get; init; }

    public required DateTime CreatedAt { get; init; }

    public string? Headers { get; init; }

    public string? TraceParent { get; init; }

    public required short MaxAttempts { get; init; }

    public required short Failures { get; init; }

    public required short Crashes { get; init; }

    // Two workers have died under it: it runs with no other suspect in its process (rescue_jobs.sql).
    public bool IsSuspect => Crashes >= 2;

    public required int Attempt { get; init; }

    public required Guid LeaseToken { get; init; }

    public required Guid WorkerId { get; init; }

    public required DateTime ClaimedAt { get; init; }

    public string? SavedCursor { get; init; }

    public string? Errors { get; init; }

    public string? Steps { get; init; }

    public Guid? WorkflowId { get; init; }

    public string? Group { get; init; }

    // Of a queue with limits: its end may make room for others.
    public bool Limited { get; init; }

    // Of one whose groups take turns: its group is told of the end.
    public bool InTurn { get; init; }
}
