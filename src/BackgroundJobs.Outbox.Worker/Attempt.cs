namespace BackgroundJobs.Outbox.Worker;

// One run of one job in this process: its token, why it was cancelled, and who may say how it ended (exactly one does).
#pragma warning disable CA1001 // The token source has neither timer nor wait handle: nothing to dispose, and a late Cancel is harmless.
internal sealed class Attempt(ClaimedJob job, JobRegistration registration, long startedAt)
{
#pragma warning restore CA1001
    private readonly CancellationTokenSource source = new();
    private int reason;
    private int ended;
    private string? savedCursor = job.SavedCursor;
    private string? savedProgress;

    public ClaimedJob Job => job;

    public JobRegistration Registration => registration;

    // TimeProvider timestamps.
    public long StartedAt => startedAt;

    public long CancelledAt { get; private set; }

    public CancellationToken Token => source.Token;

    public CancelReason Reason => (CancelReason)Volatile.Read(ref reason);

    public bool IsStuck { get; private set; }

    public JobContext? Context { get; set; }

    public void Cancel(CancelReason why, long now)
    {
        if (Interlocked.CompareExchange(ref reason, (int)why, (int)CancelReason.None) != (int)CancelReason.None)
            return;
        CancelledAt = now;

        // Callbacks are user code: on the pool, never on the thread that keeps the lease.
        _ = source.CancelAsync();
    }

    // True for the one caller whose outcome counts.
    public bool TryEnd() => Interlocked.Exchange(ref ended, 1) == 0;

    public bool HasEnded => Volatile.Read(ref ended) == 1;

    public void MarkStuck() => IsStuck = true;

    // A cursor that is newer than the database's; null if there is none.
    public string? TakeNewCursor()
    {
        var cursor = Context?.CursorJson;
        if (cursor is null || cursor == savedCursor)
            return null;
        savedCursor = cursor;
        return cursor;
    }

    public string? TakeNewProgress()
    {
        var progress = Context?.ProgressJson;
        if (progress == savedProgress)
            return null;
        savedProgress = progress;
        return progress;
    }
}
