using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Decides when: claims what fits, hands it to the slots, sleeps until there is a reason to claim again. The reasons: a hint from an enqueue,
// a slot that became free while there is more, a job that becomes due, and the poll, which finds what all hints missed.
internal sealed partial class WorkerLoop(
    JobQueue queue,
    NpgsqlDataSource connections,
    WorkerLease lease,
    OutcomeWriter outcomes,
    HeldJobs held,
    IReadOnlyList<WorkerSlots> slots,
    string[] kinds,
    OutboxWorkerOptions options,
    bool prepare,
    bool indexed,
    TimeProvider time,
    ILogger logger) : IDisposable
{
    // Ends that wait to be recorded while the database is slow; above it nothing more is claimed.
    private const int MaxPending = 20_000;

    private readonly List<WorkerQueue> queues = [.. slots.SelectMany(each => each.Queues)];
    private readonly WakeSignal wake = new();
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

        List<ClaimRequest> requests = [.. slots.SelectMany(each => each.Requests(worker, kinds))];

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
            List<ClaimAnswer> answers;
            await using (var connection = await connections.OpenConnectionAsync().ConfigureAwait(false))
            {
                if (mayBeUnknown)
                    await ReleaseUnknownAsync(connection).ConfigureAwait(false);
                if (requests.Count == 0)
                    return;
                requests = requests.ConvertAll(each => each with { Epoch = epoch });
                mayBeUnknown = true;
                answers = await queue.ClaimAsync(connection, requests, prepare, indexed).ConfigureAwait(false);
                foreach (var answer in answers)
                    held.Add(answer.Jobs);
                mayBeUnknown = false;
            }

            var took = time.GetElapsedTime(started);
            backOff = TimeSpan.Zero;
            foreach (var answer in answers)
            {
                WorkerTelemetry.WasClaimed(answer.Jobs);
                if (answer.Jobs.Count > 0)
                    lease.WatchNow();
                if (answer.LookAt is { } lookAt)
                    LookAt(lookAt);
                queues.First(each => each.Name == answer.Request.Queue).Take(answer, took);
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
}
