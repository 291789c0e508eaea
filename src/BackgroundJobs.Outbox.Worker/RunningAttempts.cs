using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.Worker;

// The attempts that run in this process: found by id for a cancel, watched for timeouts, given up when they ignore their token.
internal sealed class RunningAttempts(OutboxWorkerOptions options, TimeProvider time, ILogger logger)
{
    private readonly ConcurrentDictionary<Attempt, byte> attempts = new();

    // Called for an attempt that was given up, with what is to be recorded.
    public event Action<Attempt, JobOutcome>? GivenUp;

    public int Count => attempts.Count;

    public int Stuck => attempts.Keys.Count(attempt => attempt.IsStuck);

    public void Add(Attempt attempt) => attempts[attempt] = 0;

    public void Remove(Attempt attempt) => attempts.TryRemove(attempt, out _);

    public void Cancel(IReadOnlyCollection<Guid> jobs)
    {
        foreach (var attempt in attempts.Keys)
        {
            if (jobs.Contains(attempt.Job.Id))
                attempt.Cancel(CancelReason.Operator, time.GetTimestamp());
        }
    }

    public void CancelAll(CancelReason reason)
    {
        foreach (var attempt in attempts.Keys)
            attempt.Cancel(reason, time.GetTimestamp());
    }

    public List<(ClaimedJob Job, string Cursor)> NewCursors()
    {
        List<(ClaimedJob, string)> cursors = [];
        foreach (var attempt in attempts.Keys)
        {
            if (!attempt.HasEnded && attempt.TakeNewCursor() is { } cursor)
                cursors.Add((attempt.Job, cursor));
        }

        return cursors;
    }

    // No I/O and no user code in here: it runs on the thread that also guards the lease.
    public void Watch(TimeSpan grace)
    {
        var now = time.GetTimestamp();
        foreach (var attempt in attempts.Keys)
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
