using System.Threading.Channels;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// One queue in this process: its slots, what waits for them, and how much more to claim.
internal sealed class WorkerQueue(string name, int concurrency, TimeSpan pollInterval, TimeProvider time)
{
    // Two minutes with the default poll. With the dead entries of a minute and a half of 35,000 jobs/s a full claim took a second.
    private const int MaxPollsBetweenFull = 48;

    private const int MaxPrefetch = 3 * MaxBatch;

    private const int MaxBatch = 1000;

    // What is claimed ahead runs within this time, so that another worker is not kept from it for longer, nor a more urgent job.
    private static readonly TimeSpan PrefetchTime = TimeSpan.FromMilliseconds(200);

    // Where groups take turns, a turn that has just come waits for what is claimed already.
    private static readonly TimeSpan PrefetchTimeInTurn = TimeSpan.FromMilliseconds(50);

    private readonly Channel<ClaimedJob> waiting = Channel.CreateUnbounded<ClaimedJob>(new() { SingleWriter = true });
    private readonly ClaimCursor cursor = new();

    // In a queue with limits: a look from the beginning, a part at a time, between those for what is new.
    private readonly ClaimCursor sweep = new();
    private bool sweeping;
    private bool sweptLast;
    private TimeSpan sweptFor;
    private int looksInVain;
    private int held;
    private long done;
    private long doneAtMeasure;
    private long measuredAt = time.GetTimestamp();
    private long fullAgainAt;
    private double perSecond;
    private int suspectsRunning;
    private Task[] slots = [];

    public string Name => name;

    // Something may be due that was not claimed yet.
    public bool MayHaveMore { get; set; } = true;

    // The next claim is to start from the beginning of the queue.
    public bool Full { get; set; } = true;

    public bool HasSuspects { get; set; }

    // It has limits: its jobs are claimed in the turn of their groups.
    public bool Limited
    {
        get;
        set
        {
            if (field == value)
                return;
            field = value;
            cursor.MoveToStart();
            MayHaveMore = true;
            sweeping = false;
        }
    }

    // Groups stand in line of which a claim has got nothing: another one had them locked, or their jobs are of kinds unknown here.
    public long LookAgainAt { get; private set; } = long.MaxValue;

    // As many start in a period as may: none is claimed before it can start.
    public bool Rated { get; set; }

    public bool RunsSuspect => Volatile.Read(ref suspectsRunning) > 0;

    // Each slot runs what its own newSlot() returned, one job at a time.
    public void Start(Func<Func<ClaimedJob, Task>> newSlot, Action roomMade)
    {
        slots = [.. Enumerable.Range(0, concurrency).Select(_ => SlotAsync(newSlot(), roomMade))];
    }

    public ClaimRequest SuspectRequest(Guid worker, string[] kinds) => ClaimRequest.Everything(name, 1, worker, kinds, suspects: true) with { InTurn = Limited };

    // What fits, now.
    public IEnumerable<ClaimRequest> Requests(Guid worker, string[] kinds)
    {
        if (MayHaveMore && Room() is > 0 and var room)
        {
            var isFull = Full && !sweeping && time.GetTimestamp() >= fullAgainAt;
            if (Limited)
                yield return InTurnRequest(isFull, room, worker, kinds);
            else
                yield return isFull ? ClaimRequest.Everything(name, room, worker, kinds) : cursor.Request(name, room, worker, kinds);
        }
    }

    public void Take(ClaimAnswer answer, TimeSpan took)
    {
        var (request, jobs) = answer;
        if (request is { InTurn: true, Suspects: false })
            TakeInTurn(answer, took);
        else if (request.Suspects)
        {
            HasSuspects = jobs.Count > 0;
        }
        else
        {
            MayHaveMore = jobs.Count >= request.Limit;
            if (request.Full)
            {
                // A full claim walks the dead; it may have a twentieth of the time. But what it alone can find must not wait for ever,
                // whatever one slow claim took.
                Full = false;
                fullAgainAt = AfterFull(took);
            }

            cursor.Advance(jobs, request.Full);
        }

        Interlocked.Add(ref held, jobs.Count);
        foreach (var job in jobs)
        {
            if (job.IsSuspect)
                Interlocked.Increment(ref suspectsRunning);
            if (!waiting.Writer.TryWrite(job))
                throw new InvalidOperationException($"Queue '{name}' took jobs after it was closed.");
        }
    }

    public void LookAgain(long now)
    {
        if (now < LookAgainAt)
            return;
        LookAgainAt = long.MaxValue;
        MayHaveMore = true;
    }

    public void Hint(DateTime runAt)
    {
        cursor.Rewind(runAt);
        MayHaveMore = true;
    }

    // What was claimed and not started; the caller gives it back.
    public IEnumerable<ClaimedJob> TakeWaiting()
    {
        while (waiting.Reader.TryRead(out var job))
        {
            Done(job);
            yield return job;
        }
    }

    // Ends when every started handler has returned.
    public Task CloseAsync()
    {
        waiting.Writer.TryComplete();
        return Task.WhenAll(slots);
    }

    private long AfterFull(TimeSpan took) =>
        time.GetTimestamp() + (long)(Math.Clamp(took.TotalSeconds * 20, 1, Math.Max(1, pollInterval.TotalSeconds * MaxPollsBetweenFull)) * time.TimestampFrequency);

    private ClaimRequest InTurnRequest(bool full, int room, Guid worker, string[] kinds)
    {
        if (full)
        {
            Full = false;
            sweptFor = TimeSpan.Zero;
            sweeping = !cursor.IsAtStart;
            sweep.MoveToStart();
        }

        sweptLast = sweeping && !sweptLast;
        return (sweptLast ? sweep : cursor).Request(name, room, worker, kinds) with { InTurn = true, Full = sweptLast };
    }

    private void TakeInTurn(ClaimAnswer answer, TimeSpan took)
    {
        (answer.Request.Full ? sweep : cursor).MoveTo(answer.SeenRunAt, answer.SeenId);
        if (answer.Request.Full)
        {
            sweptFor += took;
            sweeping = answer.MoreToSee;
            if (!sweeping)
                fullAgainAt = AfterFull(sweptFor);
        }

        MayHaveMore = sweeping || answer.MoreToSee || answer.Jobs.Count > 0;

        // 20 ms at first, 1.3 s at last.
        looksInVain = answer.InLine && answer.Jobs.Count == 0 ? Math.Min(looksInVain + 1, 7) : 0;
        LookAgainAt = looksInVain == 0 ? long.MaxValue : time.GetTimestamp() + ((time.TimestampFrequency / 100) << looksInVain);
    }

    private async Task SlotAsync(Func<ClaimedJob, Task> run, Action roomMade)
    {
        while (await waiting.Reader.WaitToReadAsync().ConfigureAwait(false))
        {
            while (waiting.Reader.TryRead(out var job))
            {
                await run(job).ConfigureAwait(false);
                Interlocked.Increment(ref done);
                if (Done(job) <= LowWater && (MayHaveMore || HasSuspects))
                    roomMade();
            }
        }
    }

    // With jobs claimed ahead, a claim waits until there is room for many: one job each costs as much. And it takes no more than a part, so
    // that the next claim is under way while these run.
    private int LowWater => concurrency - 1 + Prefetch - PrefetchBatch;

    private int PrefetchBatch => Math.Min((Prefetch + 1) / 2, MaxBatch);

    private int Prefetch => Rated ? 0 : perSecond * (Limited ? PrefetchTimeInTurn : PrefetchTime).TotalSeconds is var ahead && ahead < concurrency ? 0 : (int)Math.Min(ahead, MaxPrefetch);

    private int Done(ClaimedJob job)
    {
        if (job.IsSuspect)
            Interlocked.Decrement(ref suspectsRunning);
        return Interlocked.Decrement(ref held);
    }

    private int Room()
    {
        Measure();
        var now = Volatile.Read(ref held);

        return now > LowWater ? 0 : Math.Min(concurrency + Prefetch - now, Math.Max(concurrency, PrefetchBatch));
    }

    private void Measure()
    {
        var elapsed = time.GetElapsedTime(measuredAt);
        if (elapsed < TimeSpan.FromMilliseconds(50))
            return;
        var doneNow = Volatile.Read(ref done);
        perSecond = (perSecond + ((doneNow - doneAtMeasure) / elapsed.TotalSeconds)) / 2;
        (doneAtMeasure, measuredAt) = (doneNow, time.GetTimestamp());
    }
}
