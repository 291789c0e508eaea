namespace BackgroundJobs.Outbox.Worker;

// Several queues share slots. Every job gets a turn when it was claimed, and slots take the lowest one. In an order, that is the place of its
// queue. By weights it is where its queue stands in virtual time, which goes on by one over the weight with each job (start-time fair queueing):
// one that had nothing to do goes on at the present, without credit. Claims follow the same turns, so that no queue fills the slots of another.
internal sealed class QueueTurns
{
    // How long jobs wait here while none of their queue starts, and for how long then nothing is claimed ahead of it.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Caution = TimeSpan.FromSeconds(10);

    private readonly WorkerSlots slots;
    private readonly IReadOnlyList<WorkerQueue> queues;
    private readonly TimeProvider time;
    private readonly bool inOrder;
    private double present;
    private long places;

    public QueueTurns(WorkerSlots slots, IReadOnlyList<WorkerQueue> queues, IReadOnlyList<int>? weights, TimeProvider time)
    {
        this.slots = slots;
        this.queues = queues;
        this.time = time;
        inOrder = weights is null;
        for (var at = 0; at < queues.Count; at++)
            queues[at].Share = new() { Step = weights is null ? 0 : 1.0 / weights[at], Next = inOrder ? at : 0 };
    }

    // How many jobs to claim of which queues; held: that run or wait.
    public IEnumerable<(WorkerQueue Queue, int Room)> Rooms(int held) => inOrder ? InOrder(held) : ByWeight(held);

    public WaitingJob Enter(ClaimedJob job, WorkerQueue queue)
    {
        var share = queue.Share!;
        if (Volatile.Read(ref share.Waiting) == 0)
        {
            Volatile.Write(ref share.MovedAt, time.GetTimestamp());
            share.Next = NextTurn(queue);
        }

        Interlocked.Increment(ref share.Waiting);
        var turn = share.Next;
        share.Next += share.Step;
        return new(job, queue, turn, ++places);
    }

    // True: its queue has none left here, and may have more.
    public bool Begin(WaitingJob next)
    {
        if (next.Turn > Volatile.Read(ref present))
            Volatile.Write(ref present, next.Turn);
        Volatile.Write(ref next.Queue.Share!.MovedAt, time.GetTimestamp());
        return next.Queue.Share.Leave() == 0 && next.Queue.MayHaveMore;
    }

    public bool WantMore(int held, int lowWater)
    {
        var waiting = Waiting();
        var behind = inOrder ? waiting.Sum() : 0;
        foreach (var (at, queue) in queues.Index())
        {
            if (inOrder)
                behind -= waiting[at];
            if ((queue.MayHaveMore || queue.HasSuspects) && held - behind <= lowWater)
                return true;
        }

        return false;
    }

    // Queues that wait while others have all slots, or whose jobs take longer than those before: another worker may have a slot for them.
    public HashSet<WorkerQueue> Stalled()
    {
        var stalled = queues.Where(each => each.Share!.Waiting > 0 && time.GetElapsedTime(Volatile.Read(ref each.Share.MovedAt)) > Patience).ToHashSet();
        foreach (var queue in stalled)
            queue.Share!.NoneAheadUntil = time.GetTimestamp() + (long)(Caution.TotalSeconds * time.TimestampFrequency);
        return stalled;
    }

    private double NextTurn(WorkerQueue queue) =>
        !inOrder && queue.Share!.IsIdle && Volatile.Read(ref queue.Share.Waiting) == 0 ? Math.Max(queue.Share.Next, Volatile.Read(ref present)) : queue.Share!.Next;

    // Of each queue, read once: jobs start meanwhile, and one that is counted here and not there would seem to be of another queue.
    private int[] Waiting() => [.. queues.Select(each => Volatile.Read(ref each.Share!.Waiting))];

    // The first one that may have jobs, alone: what comes after it gets what it leaves. What waits of later ones does not count.
    private IEnumerable<(WorkerQueue Queue, int Room)> InOrder(int held)
    {
        var waiting = Waiting();
        var all = waiting.Sum();
        var behind = all;
        foreach (var (at, queue) in queues.Index())
        {
            behind -= waiting[at];
            if (!queue.MayHaveMore)
                continue;
            var room = slots.Room(held - behind, queue.NoneAhead);
            if (behind > 0 && behind == all)
                room = Math.Max(room, queue.NoneAhead ? 1 : Math.Min(behind, slots.Concurrency));
            if (room <= 0)
                continue;
            yield return (queue, room);
            if (!queue.InVain)
                yield break;
        }
    }

    private IEnumerable<(WorkerQueue Queue, int Room)> ByWeight(int held)
    {
        var waiting = Waiting();
        var all = waiting.Sum();
        var room = slots.Room(held, noneAhead: false);
        var idle = Math.Max(0, slots.Concurrency - held + all);
        List<WorkerQueue> asked = [.. queues.Where(each => each.MayHaveMore)];
        List<WorkerQueue> sharing = [.. asked.Where(each => !each.InVain)];
        var turns = sharing.ConvertAll(NextTurn);
        var rooms = new int[sharing.Count];
        for (var left = sharing.Count > 0 ? room : 0; left > 0; left--)
        {
            var next = turns.IndexOf(turns.Min());
            rooms[next]++;
            turns[next] += sharing[next].Share!.Step;
        }

        foreach (var (at, queue) in queues.Index().Where(each => asked.Contains(each.Item)))
        {
            var share = queue.InVain ? room : rooms[sharing.IndexOf(queue)];
            if (queue.NoneAhead)
                share = Math.Min(share, idle);

            // What waits of others keeps none from its turn.
            if (share == 0 && all > 0 && waiting[at] == 0 && NextTurn(queue) <= Volatile.Read(ref present))
                share = queue.NoneAhead ? 1 : Math.Clamp((int)(all / queue.Share!.Step / queues.Sum(each => 1 / each.Share!.Step)), 1, slots.Concurrency);
            if (share > 0)
                yield return (queue, share);
        }
    }
}
