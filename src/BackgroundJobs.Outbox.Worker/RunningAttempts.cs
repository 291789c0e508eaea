using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.Worker;

// The attempts that run in this process: found by id for a cancel, watched for timeouts, given up when they ignore their token.
internal sealed class RunningAttempts(OutboxWorkerOptions options, TimeProvider time, ILogger logger)
{
    private readonly Lock gate = new();
    private volatile RunningSlot[] slots = [];

    // Called for an attempt that was given up, with what is to be recorded.
    public event Action<Attempt, JobOutcome>? GivenUp;

    public int Count => Attempts.Count();

    public int Stuck => Attempts.Count(attempt => attempt.IsStuck);

    private IEnumerable<Attempt> Attempts => slots.Select(each => each.Attempt).OfType<Attempt>();

    // For somebody who runs one attempt at a time: to start and end one is then no more than a write.
    public RunningSlot AddSlot()
    {
        var slot = new RunningSlot();
        lock (gate)
            slots = [.. slots, slot];
        return slot;
    }

    public void Cancel(IReadOnlyCollection<Guid> jobs)
    {
        foreach (var attempt in Attempts)
        {
            if (jobs.Contains(attempt.Job.Id))
                attempt.Cancel(CancelReason.Operator, time.GetTimestamp());
        }
    }

    public void CancelAll(CancelReason reason)
    {
        foreach (var attempt in Attempts)
            attempt.Cancel(reason, time.GetTimestamp());
    }

    public List<(ClaimedJob Job, string? Cursor, string? Progress)> NewCursors()
    {
        List<(ClaimedJob, string?, string?)> cursors = [];
        foreach (var attempt in Attempts)
        {
            if (!attempt.HasEnded && (attempt.TakeNewCursor(), attempt.TakeNewProgress()) is var (cursor, progress) && (cursor ?? progress) is not null)
                cursors.Add((attempt.Job, cursor, progress));
        }

        return cursors;
    }

    // No I/O and no user code in here: it runs on the thread that also guards the lease.
    public void Watch(TimeSpan grace)
    {
        var now = time.GetTimestamp();
        foreach (var attempt in Attempts)
        {
            if (attempt.Reason == CancelReason.None)
            {
                if (attempt.Registration.Options.Timeout is { } timeout && time.GetElapsedTime(attempt.StartedAt, now) >= timeout)
                    attempt.Cancel(CancelReason.Timeout, now);
            }
            else if (!attempt.IsStuck && time.GetElapsedTime(attempt.CancelledAt, now) >= grace && attempt.TryEnd())
            {
                attempt.MarkStuck();
                logger.Stuck(attempt.Job.Id, attempt.Job.Kind, attempt.Reason.ToString(), grace);
                GivenUp?.Invoke(attempt, JobOutcomes.OfGivenUp(attempt, options));
            }
        }
    }
}
