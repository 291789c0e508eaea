namespace BackgroundJobs.Outbox.Worker;

// What a queue has of slots that it shares (QueueTurns).
internal sealed class QueueShare
{
    // Claimed and not started.
    public int Waiting;

    // When one started, or came where none waited.
    public long MovedAt;

    // Until then only what can start at once is claimed.
    public long NoneAheadUntil;

    // Its last claim brought less than was asked for. Where it did not and none waits, the next claim is on its way, and late: it keeps its turn.
    public bool IsIdle = true;

    // One over its weight; 0 in an order.
    public required double Step { get; init; }

    // The turn of its next job.
    public required double Next { get; set; }

    public int Leave() => Interlocked.Decrement(ref Waiting);
}
