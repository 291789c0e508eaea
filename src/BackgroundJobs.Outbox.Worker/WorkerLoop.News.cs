using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// What the loop hears, from other threads and from the clock, and what follows from it: which queues to claim from, and when to look again.
internal sealed partial class WorkerLoop
{
    // For an estimate that was early, by the answer's way or by what the clocks drift between two heartbeats.
    private static readonly TimeSpan SecondLook = TimeSpan.FromMilliseconds(20);

    // What is committed later than this after it was due, and has lost its hint, waits for a full claim while kinds are paused.
    private static readonly TimeSpan Late = TimeSpan.FromSeconds(10);

    private readonly Lock gate = new();
    private readonly Dictionary<string, DateTime> hints = new(StringComparer.Ordinal);
    private readonly HashSet<string> freed = new(StringComparer.Ordinal);
    private HashSet<string> suspects = new(StringComparer.Ordinal);
    private IReadOnlyList<string> limited = [];
    private IReadOnlyList<string> rated = [];
    private bool passesOver;
    private (DateTime Database, long Local) clock;
    private DateTime? nextDue;

    // Looked for at its time by our estimate of the database's clock, which may be early: looked for once more a little later.
    private DateTime? lookedFor;

    public void Hint(JobHint hint)
    {
        lock (gate)
        {
            if (!hints.TryGetValue(hint.Queue, out var oldest) || hint.RunAt < oldest)
                hints[hint.Queue] = hint.RunAt;
        }

        wake.Set();
    }

    // Jobs of queues with limits have ended: others may start.
    public void Freed(IEnumerable<string> names)
    {
        lock (gate)
            freed.UnionWith(names);
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
            (limited, rated, passesOver) = (beat.Limited, beat.Rated, beat.PassesOver);
        }

        wake.Set();
    }

    private void LookAt(DateTime moment)
    {
        lock (gate)
        {
            if (nextDue is null || moment < nextDue)
                nextDue = moment;
        }
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

        foreach (var job in slots.SelectMany(each => each.TakeStalled()))
            outcomes.Release(job);

        lock (gate)
        {
            foreach (var each in queues)
            {
                each.LookAgain(now);
                each.HasSuspects |= suspects.Remove(each.Name);
                each.Limited = limited.Contains(each.Name);
                each.Rated = rated.Contains(each.Name);
                each.PassedOver = passesOver ? clock.Database + time.GetElapsedTime(clock.Local) - Late : null;
                each.MayHaveMore |= freed.Remove(each.Name);
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
        foreach (var each in queues)
        {
            if (each.LookAgainAt != long.MaxValue && TimeSpan.FromSeconds((double)(each.LookAgainAt - time.GetTimestamp()) / time.TimestampFrequency) is var until && until < wait)
                wait = until > TimeSpan.Zero ? until : TimeSpan.Zero;
        }

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
