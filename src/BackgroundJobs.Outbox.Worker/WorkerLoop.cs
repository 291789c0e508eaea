using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Decides when: claims what fits, hands it to the slots, sleeps until there is a reason to claim again. The reasons: a hint from an enqueue,
// a slot that became free while there is more, a job that becomes due, and the poll, which finds what all hints missed.
internal sealed class WorkerLoop(
    JobQueue queue,
    NpgsqlDataSource connections,
    WorkerLease lease,
    OutcomeWriter outcomes,
    HeldJobs held,
    IReadOnlyList<WorkerQueue> queues,
    string[] kinds,
    OutboxWorkerOptions options,
    bool prepare,
    bool indexed,
    TimeProvider time,
    ILogger logger) : IDisposable
{
    // Ends that wait to be recorded while the database is slow; above it nothing more is claimed.
    private const int MaxPending = 20_000;

    // For an estimate that was early, by the answer's way or by what the clocks drift between two heartbeats.
    private static readonly TimeSpan SecondLook = TimeSpan.FromMilliseconds(20);

    private readonly WakeSignal wake = new();
    private readonly Lock gate = new();
    private readonly Dictionary<string, DateTime> hints = new(StringComparer.Ordinal);
    private HashSet<string> suspects = new(StringComparer.Ordinal);
    private (DateTime Database, long Local) clock;
    private DateTime? nextDue;

    // Looked for at its time by our estimate of the database's clock, which may be early: looked for once more a little later.
    private DateTime? lookedFor;
    private long pollAt;
    private TimeSpan backOff;

    // In the name of the worker's current incarnation: after a claim whose answer never came, or on a server that took over or was restored.
    private volatile bool mayHoldUnknown;
    private Guid claimedAs;
    private int epoch;

    public async Task RunAsync(CancellationToken stopping)
    {
        using var onStop = stopping.Register(wake.Set);
        while (!stopping.IsCancellationRequested)
        {
            TakeNews();
            var requests = lease.Holds && outcomes.Pending < MaxPending ? Requests() : [];
            if ((requests.Count > 0 || mayHoldUnknown) && lease.Holds)
                await ClaimAsync(requests).ConfigureAwait(false);
            else
                await wake.WaitAsync(UntilNextReason()).ConfigureAwait(false);
        }

        if (mayHoldUnknown && lease.Holds)
            await ClaimAsync([]).ConfigureAwait(false);
    }

    // After the loop has ended: the worker may hold jobs that nobody here knows of.
    public bool MayHoldUnknown => mayHoldUnknown;

    public void Wake() => wake.Set();

    public void PollNow()
    {
        Volatile.Write(ref pollAt, time.GetTimestamp());
        wake.Set();
    }

    // Another server answers, or the same one from a backup: it may have forgotten how jobs ended.
    public void ServerChanged()
    {
        mayHoldUnknown = true;
        PollNow();
    }

    public void Hint(JobHint hint)
    {
        lock (gate)
        {
            if (!hints.TryGetValue(hint.Queue, out var oldest) || hint.RunAt < oldest)
                hints[hint.Queue] = hint.RunAt;
        }

        wake.Set();
    }

    public void Heard(Beat beat)
    {
        lock (gate)
        {
            clock = (beat.Now, time.GetTimestamp());
            if (beat.NextDue < nextDue || nextDue is null)
                nextDue = beat.NextDue;
            suspects = [.. beat.Suspects];
        }

        wake.Set();
    }

    public void Dispose() => wake.Dispose();

    private List<ClaimRequest> Requests()
    {
        var worker = lease.WorkerId;
        if (worker != claimedAs)
        {
            // What an earlier incarnation left behind is for the rescue.
            mayHoldUnknown = false;
            (claimedAs, epoch) = (worker, 0);
        }

        List<ClaimRequest> requests = [.. queues.SelectMany(each => each.Requests(worker, kinds))];

        // One suspect in the whole process, and the end of the last one recorded: or the next crash would be charged to both.
        if (outcomes.PendingSuspects == 0 && !queues.Any(each => each.RunsSuspect) && queues.FirstOrDefault(each => each.HasSuspects) is { } queue)
            requests.Add(queue.SuspectRequest(worker, kinds));
        return requests;
    }

    private async Task ClaimAsync(List<ClaimRequest> requests)
    {
        var mayBeUnknown = mayHoldUnknown;
        try
        {
            var started = time.GetTimestamp();
            List<ClaimedJob> jobs;
            await using (var connection = await connections.OpenConnectionAsync().ConfigureAwait(false))
            {
                if (mayBeUnknown)
                    await ReleaseUnknownAsync(connection).ConfigureAwait(false);
                if (requests.Count == 0)
                    return;
                requests = requests.ConvertAll(each => each with { Epoch = epoch });
                mayBeUnknown = true;
                jobs = await queue.ClaimAsync(connection, requests, prepare, indexed).ConfigureAwait(false);
                held.Add(jobs);
                mayBeUnknown = false;
            }

            var took = time.GetElapsedTime(started);
            backOff = TimeSpan.Zero;
            WorkerTelemetry.WasClaimed(jobs);
            if (jobs.Count > 0)
                lease.WatchNow();
            foreach (var request in requests)
            {
                queues.First(each => each.Name == request.Queue)
                    .Take(request, jobs.FindAll(job => job.Queue == request.Queue && job.IsSuspect == request.Suspects), took);
            }
        }
#pragma warning disable CA1031 // Whatever it is, a worker that still beats and claims nothing would be a zombie: it says so and tries again.
        catch (Exception e)
#pragma warning restore CA1031
        {
            mayHoldUnknown |= mayBeUnknown;
            connections.LeaveReadOnlyServer(e);
            backOff = TimeSpan.FromMilliseconds(Math.Clamp(backOff.TotalMilliseconds * 2, 100, 5000));
            logger.ClaimFailed(e, backOff);
            await wake.WaitAsync(backOff).ConfigureAwait(false);
        }
    }

    private async Task ReleaseUnknownAsync(NpgsqlConnection connection)
    {
        mayHoldUnknown = false;
        epoch++;
        var released = await queue.ReleaseClaimsAsync(connection, claimedAs, epoch, held.ToArray()).ConfigureAwait(false);
        if (released > 0)
            logger.GaveUnknownBack(released);
    }

    private void TakeNews()
    {
        var now = time.GetTimestamp();
        if (now >= Volatile.Read(ref pollAt))
        {
            pollAt = now + (long)(options.PollInterval.TotalSeconds * (0.8 + (Random.Shared.NextDouble() * 0.4)) * time.TimestampFrequency);
            foreach (var each in queues)
                each.MayHaveMore = each.Full = true;
        }

        lock (gate)
        {
            foreach (var each in queues)
            {
                each.HasSuspects |= suspects.Remove(each.Name);
                if (!hints.Remove(each.Name, out var runAt))
                    continue;
                if (IsDue(runAt))
                    each.Hint(runAt);
                else if (nextDue is null || runAt < nextDue)
                    nextDue = runAt;
            }

            hints.Clear();
            if (nextDue is { } due && IsDue(due))
            {
                nextDue = null;
                lookedFor = due;
                foreach (var each in queues)
                    each.Hint(due);
            }
            else if (lookedFor is { } before && IsDue(before + SecondLook))
            {
                lookedFor = null;
                foreach (var each in queues)
                    each.Hint(before);
            }
        }
    }

    // By the database's clock as the last heartbeat told it, carried on by ours. A little early is no harm: the claim asks the database, and
    // there is a second look.
    private bool IsDue(DateTime runAt) => clock.Local == 0 || runAt <= clock.Database + time.GetElapsedTime(clock.Local) + TimeSpan.FromMilliseconds(1);

    private TimeSpan UntilNextReason()
    {
        var wait = TimeSpan.FromSeconds((double)(Volatile.Read(ref pollAt) - time.GetTimestamp()) / time.TimestampFrequency);
        lock (gate)
        {
            foreach (var moment in new[] { nextDue, lookedFor + SecondLook })
            {
                if (moment is { } due && clock.Local != 0 && due - clock.Database - time.GetElapsedTime(clock.Local) is var until && until < wait)
                    wait = until < TimeSpan.FromMilliseconds(1) ? TimeSpan.FromMilliseconds(1) : until;
            }
        }

        return wait;
    }
}
