using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// One queue in this process: whether there is more to claim, and from where on.
internal sealed class WorkerQueue(string name, WorkerSlots slots, TimeSpan pollInterval, TimeProvider time)
{
    // Two minutes with the default poll. With the dead entries of a minute and a half of 35,000 jobs/s a full claim took a second.
    private const int MaxPollsBetweenFull = 48;

    // A part costs as much as a claim of some hundred jobs: while there are jobs for this worker it may have a fourth of the claims.
    private const int ClaimsBetweenParts = 3;

    private readonly ClaimCursor cursor = new();

    // Its groups take turns, as the last claim has told: not every queue with limits has groups.
    private bool inTurn;

    // There: a look from the beginning, a part at a time, between those for what is new.
    private readonly ClaimCursor sweep = new();
    private bool sweeping;
    private int claimsSincePart = ClaimsBetweenParts;
    private TimeSpan sweptFor;
    private int looksInVain;
    private int waits;
    private long fullAgainAt;
    private int suspectsRunning;

    public string Name => name;

    // Something may be due that was not claimed yet.
    public bool MayHaveMore { get; set; } = true;

    // The next claim is to start from the beginning of the queue.
    public bool Full { get; set; } = true;

    public bool HasSuspects { get; set; }

    // It has limits.
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
            (inTurn, sweeping) = (false, false);
        }
    }

    // Groups stand in line of which a claim has got nothing: another one had them locked, or their jobs are of kinds unknown here. Or its limit is
    // reached: what ends elsewhere is not told here.
    public long LookAgainAt { get; private set; } = long.MaxValue;

    // As many start in a period as may: none is claimed before it can start.
    public bool Rated { get; set; }

    // Kinds are paused: what was due before this, and was not claimed, need not be walked by each claim. Null: none are.
    public DateTime? PassedOver { get; set; }

    // Null where it has its slots for itself.
    public QueueShare? Share { get; set; }

    public bool NoneAhead => Rated || (Share is { NoneAheadUntil: > 0 and var until } && time.GetTimestamp() < until);

    // A queue with limits is looked through, and the last look has brought no job: others need not wait for the next one.
    public bool InVain { get; private set; }

    public bool RunsSuspect => Volatile.Read(ref suspectsRunning) > 0;

    public ClaimRequest SuspectRequest(Guid worker, string[] kinds) => ClaimRequest.Everything(name, 1, worker, kinds, suspects: true) with { Limited = Limited, InTurn = inTurn };

    public ClaimRequest Request(int room, Guid worker, string[] kinds)
    {
        var isFull = Full && !sweeping && time.GetTimestamp() >= fullAgainAt;
        if (inTurn)
            return InTurnRequest(isFull, room, worker, kinds);
        return (isFull ? ClaimRequest.Everything(name, room, worker, kinds) : cursor.Request(name, room, worker, kinds)) with { Limited = Limited };
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
            MayHaveMore = jobs.Count >= (request.Limited ? 1 : request.Limit);
            if (request.Full)
            {
                // A full claim walks the dead; it may have a twentieth of the time. But what it alone can find must not wait for ever,
                // whatever one slow claim took.
                Full = false;
                fullAgainAt = AfterFull(took);
            }

            cursor.Advance(jobs, request.Full);
            if (!MayHaveMore && answer is { InLine: false, LookAt: null } && PassedOver is { } until)
                cursor.PassOver(until);
        }

        if (request is { Limited: true, Suspects: false })
            TakeLimited(answer);

        foreach (var job in jobs)
        {
            if (job.IsSuspect)
                Interlocked.Increment(ref suspectsRunning);
        }

        if (!request.Suspects)
            InVain = request.InTurn && MayHaveMore && jobs.Count == 0;
        slots.Add(this, jobs);
        if (Share is not null && !request.Suspects)
            Share.IsIdle = jobs.Count < request.Limit;
    }

    public void Ended(ClaimedJob job)
    {
        if (job.IsSuspect)
            Interlocked.Decrement(ref suspectsRunning);
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
        InVain = false;
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

        var sweeps = sweeping && claimsSincePart >= ClaimsBetweenParts;
        return (sweeps ? sweep : cursor).Request(name, room, worker, kinds) with { InTurn = true, Full = sweeps, LooksInVain = looksInVain };
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

        claimsSincePart = answer switch
        {
            { Request.Full: true } => 0,
            { Jobs.Count: 0 } => ClaimsBetweenParts,
            _ => Math.Min(claimsSincePart + 1, ClaimsBetweenParts),
        };
        MayHaveMore = sweeping || answer.MoreToSee || answer.Jobs.Count > 0;
    }

    private void TakeLimited(ClaimAnswer answer)
    {
        if (answer.TakesTurns != inTurn && Limited)
        {
            inTurn = answer.TakesTurns;
            MayHaveMore = true;

            // What comes from now on need not wait until all that was there is looked through.
            sweep.MoveToStart();
            sweeping = inTurn;
            if (inTurn)
                cursor.PassOver(answer.Now);
        }

        var inVain = answer.InLine && answer.Jobs.Count == 0;
        looksInVain = inVain ? looksInVain + 1 : 0;

        // 20 ms, then once through the line without a pause; then up to 1.3 s.
        var wait = inVain && !answer.IsLineLonger;
        waits = wait ? Math.Min(waits + 1, 7) : 0;
        LookAgainAt = wait ? time.GetTimestamp() + ((time.TimestampFrequency / 100) << waits) : long.MaxValue;
        MayHaveMore |= inVain && answer.IsLineLonger;
    }
}
