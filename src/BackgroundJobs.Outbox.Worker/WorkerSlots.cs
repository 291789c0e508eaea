using System.Threading.Channels;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Slots of this process, and what was claimed and waits for one of them: those of one queue, or of several in turns.
internal sealed class WorkerSlots
{
    private const int MaxPrefetch = 3 * MaxBatch;

    private const int MaxBatch = 1000;

    // What is claimed ahead runs within this time, so that another worker is not kept from it for longer, nor a more urgent job.
    private static readonly TimeSpan PrefetchTime = TimeSpan.FromMilliseconds(200);

    // Where groups take turns, a turn that has just come waits for what is claimed already.
    private static readonly TimeSpan PrefetchTimeInTurn = TimeSpan.FromMilliseconds(50);

    private readonly WorkerQueue[] queues;
    private readonly QueueTurns? turns;
    private readonly Channel<WaitingJob> waiting;
    private readonly TimeProvider time;
    private int held;
    private long done;
    private long doneAtMeasure;
    private long measuredAt;
    private double perSecond;
    private TimeSpan prefetchTime = PrefetchTime;
    private Task[] slots = [];

    public WorkerSlots(DeclaredSlots declared, TimeSpan pollInterval, TimeProvider time)
    {
        this.time = time;
        Concurrency = declared.Concurrency;
        measuredAt = time.GetTimestamp();
        queues = [.. declared.Queues.Select(name => new WorkerQueue(name, this, pollInterval, time))];
        turns = queues.Length > 1 ? new QueueTurns(this, queues, declared.Weights, time) : null;
        waiting = turns is null
            ? Channel.CreateUnbounded<WaitingJob>(new() { SingleWriter = true })
            : Channel.CreateUnboundedPrioritized<WaitingJob>(new() { SingleWriter = true, Comparer = WaitingJob.ByTurn });
    }

    public IReadOnlyList<WorkerQueue> Queues => queues;

    public int Concurrency { get; }

    // Each slot runs what its own newSlot() returned, one job at a time.
    public void Start(Func<Func<ClaimedJob, Task>> newSlot, Action roomMade) =>
        slots = [.. Enumerable.Range(0, Concurrency).Select(_ => SlotAsync(newSlot(), roomMade))];

    // What fits, now.
    public IEnumerable<ClaimRequest> Requests(Guid worker, string[] kinds)
    {
        Measure();
        var now = Volatile.Read(ref held);
        if (turns is not null)
            return turns.Rooms(now).Select(each => each.Queue.Request(each.Room, worker, kinds));
        return queues[0].MayHaveMore && Room(now, queues[0].NoneAhead) is > 0 and var room ? [queues[0].Request(room, worker, kinds)] : [];
    }

    // Before: how many run, or wait and start first.
    public int Room(int before, bool noneAhead)
    {
        var prefetch = noneAhead ? 0 : Prefetch;
        return before > LowWater(prefetch) ? 0 : Math.Min(Concurrency + prefetch - before, Math.Max(Concurrency, Batch(prefetch)));
    }

    public void Add(WorkerQueue queue, List<ClaimedJob> jobs)
    {
        Interlocked.Add(ref held, jobs.Count);
        foreach (var job in jobs)
            Write(turns is null ? new(job, queue) : turns.Enter(job, queue));
    }

    // What was claimed and not started; the caller gives it back.
    public IEnumerable<ClaimedJob> TakeWaiting()
    {
        while (waiting.Reader.TryRead(out var next))
        {
            next.Queue.Share?.Leave();
            Done(next);
            yield return next.Job;
        }
    }

    // The same of queues that share their slots, and had none of late.
    public List<ClaimedJob> TakeStalled()
    {
        if (turns?.Stalled() is not { Count: > 0 } names)
            return [];
        List<ClaimedJob> stalled = [];
        List<WaitingJob> others = [];
        while (waiting.Reader.TryRead(out var next))
        {
            if (!names.Contains(next.Queue))
            {
                others.Add(next);
                continue;
            }

            next.Queue.Share!.Leave();
            Done(next);
            stalled.Add(next.Job);
        }

        others.ForEach(Write);
        return stalled;
    }

    // Ends when every started handler has returned.
    public Task CloseAsync()
    {
        waiting.Writer.TryComplete();
        return Task.WhenAll(slots);
    }

    private async Task SlotAsync(Func<ClaimedJob, Task> run, Action roomMade)
    {
        while (await waiting.Reader.WaitToReadAsync().ConfigureAwait(false))
        {
            while (waiting.Reader.TryRead(out var next))
            {
                if (turns is not null && turns.Begin(next))
                    roomMade();
                await run(next.Job).ConfigureAwait(false);
                Interlocked.Increment(ref done);
                if (WantsMore(Done(next)))
                    roomMade();
            }
        }
    }

    private bool WantsMore(int now)
    {
        if (turns is not null)
            return turns.WantMore(now, LowWater(Prefetch));
        return now <= LowWater(queues[0].NoneAhead ? 0 : Prefetch) && (queues[0].MayHaveMore || queues[0].HasSuspects);
    }

    // With jobs claimed ahead, a claim waits until there is room for many: one job each costs as much. And it takes no more than a part, so
    // that the next claim is under way while these run.
    private int LowWater(int prefetch) => Concurrency - 1 + prefetch - Batch(prefetch);

    private static int Batch(int prefetch) => Math.Min((prefetch + 1) / 2, MaxBatch);

    private int Prefetch => perSecond * prefetchTime.TotalSeconds is var ahead && ahead < Concurrency ? 0 : (int)Math.Min(ahead, MaxPrefetch);

    private int Done(WaitingJob ended)
    {
        ended.Queue.Ended(ended.Job);
        return Interlocked.Decrement(ref held);
    }

    private void Write(WaitingJob job)
    {
        if (!waiting.Writer.TryWrite(job))
            throw new InvalidOperationException($"Queue '{job.Queue.Name}' took jobs after it was closed.");
    }

    private void Measure()
    {
        var elapsed = time.GetElapsedTime(measuredAt);
        if (elapsed < TimeSpan.FromMilliseconds(50))
            return;
        prefetchTime = Array.Exists(queues, each => each.Limited) ? PrefetchTimeInTurn : PrefetchTime;
        var doneNow = Volatile.Read(ref done);
        perSecond = (perSecond + ((doneNow - doneAtMeasure) / elapsed.TotalSeconds)) / 2;
        (doneAtMeasure, measuredAt) = (doneNow, time.GetTimestamp());
    }
}
