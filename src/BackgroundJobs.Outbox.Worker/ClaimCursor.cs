using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Where the claims of one queue go on, per priority: behind the newest job this process has claimed. It keeps claims from walking the index
// entries of jobs long gone, which a long transaction elsewhere may keep alive by the hundred thousand. What comes to lie behind it (late
// commits, retries, rescued jobs) is found by the hint that tells its run_at, and, should that be lost, by the next full claim.
internal sealed class ClaimCursor
{
    private readonly DateTime[] runAt = new DateTime[JobDefaults.LastPriority];
    private readonly Guid[] id = new Guid[JobDefaults.LastPriority];

    public ClaimRequest Request(string queue, int limit, Guid worker, string[] kinds) =>
        new(queue, limit, worker, kinds, [.. runAt], [.. id]);

    // Jobs sorted by priority, run_at and id, as one claim brought them.
    public void Advance(IReadOnlyList<ClaimedJob> jobs, bool full)
    {
        for (var at = 0; at < jobs.Count; at++)
        {
            var job = jobs[at];
            if (at + 1 < jobs.Count && jobs[at + 1].Priority == job.Priority)
                continue;

            // The last one of its priority. Where the claim stopped for want of room there may be more right behind it; elsewhere
            // everything up to the end of the range was seen, and the cursor need not go back to older jobs that a full claim found.
            var p = job.Priority - 1;
            if ((full && at + 1 == jobs.Count) || (job.RunAt, job.Id).CompareTo((runAt[p], id[p])) > 0)
                (runAt[p], id[p]) = (job.RunAt, job.Id);
        }
    }

    // What is before this, and was due, a claim has seen and passed over.
    public void PassOver(DateTime until)
    {
        for (var p = 0; p < runAt.Length; p++)
        {
            if (until > runAt[p])
                (runAt[p], id[p]) = (until, Guid.Empty);
        }
    }

    // As far as a queue with limits was looked through.
    public void MoveTo(DateTime[] seenRunAt, Guid[] seenId)
    {
        seenRunAt.CopyTo(runAt, 0);
        seenId.CopyTo(id, 0);
    }

    public void MoveToStart()
    {
        Array.Clear(runAt);
        Array.Clear(id);
    }

    public bool IsAtStart => Array.TrueForAll(runAt, at => at == default);

    public void Rewind(DateTime oldest)
    {
        for (var p = 0; p < runAt.Length; p++)
        {
            if (oldest <= runAt[p])
                (runAt[p], id[p]) = (oldest, Guid.Empty);
        }
    }
}
