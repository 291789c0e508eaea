using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// What may start in a queue with limits, in a few lines that know nothing of lines, turns and states.
internal sealed class GroupModel(GroupOrder order)
{
    // Of all rates.
    public static readonly TimeSpan Period = TimeSpan.FromMinutes(20);

    // How far groups may be apart that could both have started more, in turns of their own: one start of each, by its weight. And what is lost in adding.
    private const double MaxUneven = 1 + 1e-6;

    // A rate counts a start up to two fiftieths of its period too long.
    private static readonly TimeSpan LongPeriod = Period * 1.04;

    private readonly List<Start> starts = [];
    private readonly Dictionary<(Group, Group), Share> shares = [];

    private QueueLimits limits = new();

    public GroupOrder Order => order;

    // What the database's clock said the last time, and what has passed besides.
    public DateTime Now { get; set; }

    public List<Job> Jobs { get; } = [];

    public List<Group> Groups { get; } = [.. new[] { "", "a", "b", "c", "d" }.Select(name => new Group(name))];

    public IEnumerable<Job> Open => Jobs.Where(each => each.State is State.Waits or State.Runs);

    public IEnumerable<Job> Running => Jobs.Where(each => each.State == State.Runs);

    public int Compared { get; private set; }

    public double MostUneven { get; private set; }

    // How many jobs are sure to start of a claim of so many that has looked for new ones. What runs, or has started, counts from the moment on at
    // which there is a limit; whether what did before counts too is left open.
    public int Sure(int most, bool suspects) => Math.Max(0, Math.Min(
        Math.Min(most, RoomInQueue(sure: true)),
        Groups.Where(each => !each.IsStale).Sum(each => Startable(each, suspects, most))));

    // Takes what a claim has brought, or says why it should not have. One that has not looked for new jobs may not know of one that comes first.
    public string? Take(IReadOnlyList<Guid> ids, int most, bool suspects, bool looked, int worker)
    {
        if (ids.Count > 0 && ids.Count > RoomInQueue(sure: false))
            return $"{ids.Count} of the queue, which has room for {RoomInQueue(sure: false)}";
        foreach (var job in Jobs)
            job.IsKnown = job is { State: State.Waits, IsDue: true } && (job.IsKnown || looked);
        var contending = Groups.Where(each => !each.IsStale && Startable(each, suspects, most, known: true) >= most).ToList();
        foreach (var group in Groups)
        {
            var taken = ids.Where(id => Jobs.Any(each => each.Id == id && each.Group == group)).ToList();
            var next = Next(group, suspects, all: !looked);
            if (taken.Count > Math.Max(0, Room(group, sure: false)))
                return $"{taken.Count} of group '{group.Name}', which has room for {Room(group, sure: false)}";
            if (!looked)
                next = [.. taken.Select(id => next.Find(each => each.Id == id)).OfType<Job>()];
            if (!taken.SequenceEqual(next.Take(taken.Count).Select(each => each.Id)))
                return $"of group '{group.Name}' {string.Join(", ", taken)} instead of {string.Join(", ", next)}";
            group.Taken = taken.Count;
            foreach (var job in next.Take(taken.Count))
            {
                (job.State, job.IsKnown, job.Worker, job.Counts, job.CountsInQueue) = (State.Runs, false, worker, Limit(group) is not null, limits.Concurrency is not null);
                starts.Add(new(Now, group) { Counts = limits.GroupRate is not null, CountsInQueue = limits.Rate is not null });
                group.Head = order == GroupOrder.Strict ? job : null;
            }
        }

        return Compare(contending, suspects);
    }

    public void SetLimits(QueueLimits now)
    {
        limits = now;
        Recount();
    }

    public void SetGroup(Group group, double weight, int? concurrency)
    {
        (group.Weight, group.Concurrency) = (weight, concurrency);
        foreach (var pair in shares.Keys.Where(each => each.Item1 == group || each.Item2 == group).ToList())
            shares.Remove(pair);
        Recount();
    }

    public void Pause(Group group, TimeSpan? time) => group.PausedUntil = time is { } known ? Now + known : DateTime.MaxValue;

    public void PushBack(Group group, TimeSpan time) => group.PausedUntil = group.PausedUntil > Now + time ? group.PausedUntil : Now + time;

    // Half a minute is all that anything need be overlooked.
    public void Pass(TimeSpan time)
    {
        Now += time;
        foreach (var group in Groups)
            group.IsStale = false;
    }

    // To be set aside at so many crashes.
    public void Rescue(int worker, int maxCrashes)
    {
        var held = Running.Where(each => each.Worker == worker).ToList();
        var hasSuspect = held.Any(each => each.IsSuspect);
        foreach (var job in held)
        {
            job.Crashes += job.IsSuspect || !hasSuspect ? 1 : 0;
            job.State = job.Crashes >= maxCrashes ? State.Dead : State.Waits;
        }
    }

    private List<Job> Next(Group group, bool suspects, bool all = false)
    {
        if (group.PausedUntil > Now)
            return [];
        IEnumerable<Job> due = Jobs.Where(each => each.Group == group && each is { State: State.Waits, IsDue: true });
        if (order == GroupOrder.Strict && group.Head is { State: not State.Done } head)
            due = due.Where(each => each == head);
        due = due.OrderBy(each => each.Priority).ThenBy(each => each.RunAt).ThenBy(each => $"{each.Id}", StringComparer.Ordinal);
        return [.. (order == GroupOrder.Any || all ? due : due.Take(1)).Where(each => each.IsSuspect == suspects)];
    }

    // As many as their weights say of those that could all start as many as are claimed: a group that has had more than its share waits for the others.
    private string? Compare(List<Group> contending, bool suspects)
    {
        // Those are started whoever's turn it is, and count.
        if (suspects)
        {
            foreach (var group in Groups)
                group.HadSuspects |= group.Taken > 0;
            return null;
        }

        contending.RemoveAll(each => each.HadSuspects);
        for (var one = 0; one < Groups.Count; one++)
        {
            for (var other = one + 1; other < Groups.Count; other++)
            {
                var (a, b) = (Groups[one], Groups[other]);
                if (!contending.Contains(a) || !contending.Contains(b))
                {
                    shares.Remove((a, b));
                    continue;
                }

                if (!shares.TryGetValue((a, b), out var share))
                    shares.Add((a, b), share = new());
                share.Add((a.Taken / a.Weight) - (b.Taken / b.Weight));
                var turns = share.Spread / ((1 / a.Weight) + (1 / b.Weight));
                (Compared, MostUneven) = (Compared + 1, Math.Max(MostUneven, turns));
                if (!HasMore(a) || !HasMore(b))
                    shares.Remove((a, b));
                if (turns > MaxUneven)
                    return $"groups '{a.Name}' and '{b.Name}', of weights {a.Weight} and {b.Weight}, have had {share.Spread:0.##} starts more or less for their weight";
            }
        }

        return null;
    }

    private int Startable(Group group, bool suspects, int most, bool known = false) =>
        Math.Max(0, Math.Min(Math.Min(most, Room(group, sure: true)), Next(group, suspects).Count(each => each.IsKnown || !known)));

    // Else it leaves the line, until a claim has looked for new ones.
    private bool HasMore(Group group) => Next(group, suspects: false).Any(each => each.IsKnown);

    private int Room(Group group, bool sure) => Math.Min(
        Limit(group) - Running.Count(each => each.Group == group && (sure || each.Counts)) ?? int.MaxValue,
        limits.GroupRate?.Jobs - Started(sure, each => each.Group == group && (sure || each.Counts)) ?? int.MaxValue);

    private int RoomInQueue(bool sure) => Math.Min(
        limits.Concurrency - Running.Count(each => sure || each.CountsInQueue) ?? int.MaxValue,
        limits.Rate?.Jobs - Started(sure, each => sure || each.CountsInQueue) ?? int.MaxValue);

    private int Started(bool sure, Func<Start, bool> which) => starts.Count(each => each.At > Now - (sure ? LongPeriod : Period) && which(each));

    private int? Limit(Group group) => order != GroupOrder.Any ? 1 : group.Concurrency ?? limits.GroupConcurrency;

    private void Recount()
    {
        foreach (var job in Running)
        {
            job.Counts &= Limit(job.Group) is not null;
            job.CountsInQueue &= limits.Concurrency is not null;
        }

        foreach (var start in starts)
        {
            start.Counts &= limits.GroupRate is not null;
            start.CountsInQueue &= limits.Rate is not null;
        }
    }

    internal enum State
    {
        Waits,
        Runs,
        Dead,
        Done,
    }

    internal sealed class Group(string name)
    {
        public string Name => name;

        public double Weight { get; set; } = 1;

        public int? Concurrency { get; set; }

        public DateTime? PausedUntil { get; set; }

        // In strict order: that one was started last.
        public Job? Head { get; set; }

        // May be overlooked for half a minute: nobody was told.
        public bool IsStale { get; set; }

        public bool HadSuspects { get; set; }

        // By the last claim.
        public int Taken { get; set; }
    }

    private sealed class Start(DateTime at, Group group)
    {
        public DateTime At => at;

        public Group Group => group;

        public bool Counts { get; set; }

        public bool CountsInQueue { get; set; }
    }

    // What one group has started more than another, by their weights, since both could start as many as were claimed.
    private sealed class Share
    {
        private double now;
        private double least;
        private double most;

        public double Spread => most - least;

        public void Add(double more)
        {
            now += more;
            least = Math.Min(least, now);
            most = Math.Max(most, now);
        }
    }

    internal sealed class Job(Guid id, Group group, int priority)
    {
        public Guid Id => id;

        public Group Group => group;

        public int Priority => priority;

        public State State { get; set; }

        // As the database has it.
        public DateTime RunAt { get; set; }

        public bool IsDue { get; set; }

        // To the line: a claim has looked for new jobs since it waits.
        public bool IsKnown { get; set; }

        public int Crashes { get; set; }

        public bool IsSuspect => Crashes >= 2;

        public int Worker { get; set; }

        public ClaimedJob? Claimed { get; set; }

        public bool Counts { get; set; }

        public bool CountsInQueue { get; set; }

        public override string ToString() => $"{id} {group.Name} {priority} {State}{(IsDue ? "" : " later")}{(IsSuspect ? " suspect" : "")}";
    }
}
