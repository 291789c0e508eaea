using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// What may start in a queue with limits, in a few lines that know nothing of lines, turns and states.
internal sealed class GroupModel(GroupOrder order)
{
    private TimeSpan now;

    public GroupOrder Order => order;

    public int? Concurrency { get; private set; }

    public int? GroupConcurrency { get; private set; }

    public List<Job> Jobs { get; } = [];

    public List<Group> Groups { get; } = [.. new[] { "", "a", "b", "c", "d" }.Select(name => new Group(name))];

    public IEnumerable<Job> Open => Jobs.Where(each => each.State is State.Waits or State.Runs);

    public IEnumerable<Job> Running => Jobs.Where(each => each.State == State.Runs);

    // How many of these groups are sure to start a job of a claim that has looked for new ones. What runs counts from the moment on at which
    // there is a limit; whether what ran before counts too is left open.
    public int Sure(bool suspects)
    {
        var inQueue = Concurrency - Running.Count() ?? int.MaxValue;
        return inQueue <= 0 ? 0 : Groups.Where(each => !each.IsStale).Count(each => Room(each, sure: true) > 0 && Next(each, suspects).Count > 0);
    }

    // Takes what a claim has brought, or says why it should not have. One that has not looked for new jobs may not know of one that comes first.
    public string? Take(IReadOnlyList<Guid> ids, bool suspects, bool looked, int worker)
    {
        if (ids.Count > 0 && Running.Count(each => each.CountsInQueue) + ids.Count > Concurrency)
            return $"{ids.Count} more than the {Concurrency} of the queue";
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
            foreach (var job in next.Take(taken.Count))
            {
                (job.State, job.Worker, job.Counts, job.CountsInQueue) = (State.Runs, worker, Limit(group) is not null, Concurrency is not null);
                group.Head = order == GroupOrder.Strict ? job : null;
            }
        }

        return null;
    }

    public void SetLimits(int? concurrency, int? groupConcurrency)
    {
        (Concurrency, GroupConcurrency) = (concurrency, groupConcurrency);
        Recount();
    }

    public void SetGroup(Group group, int? concurrency)
    {
        group.Concurrency = concurrency;
        Recount();
    }

    public void Pause(Group group, TimeSpan? time) => group.PausedUntil = time is { } known ? now + known : TimeSpan.MaxValue;

    public void PushBack(Group group, TimeSpan time) => group.PausedUntil = group.PausedUntil > now + time ? group.PausedUntil : now + time;

    // Half a minute is all that anything need be overlooked.
    public void Pass(TimeSpan time)
    {
        now += time;
        foreach (var group in Groups)
        {
            group.IsStale = false;
            if (group.PausedUntil <= now)
                group.PausedUntil = null;
        }
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
        if (group.PausedUntil is not null)
            return [];
        IEnumerable<Job> due = Jobs.Where(each => each.Group == group && each is { State: State.Waits, IsDue: true });
        if (order == GroupOrder.Strict && group.Head is { State: not State.Done } head)
            due = due.Where(each => each == head);
        due = due.OrderBy(each => each.Priority).ThenBy(each => each.RunAt).ThenBy(each => $"{each.Id}", StringComparer.Ordinal);
        return [.. (order == GroupOrder.Any || all ? due : due.Take(1)).Where(each => each.IsSuspect == suspects)];
    }

    private int Room(Group group, bool sure) =>
        Limit(group) - Running.Count(each => each.Group == group && (sure || each.Counts)) ?? int.MaxValue;

    private int? Limit(Group group) => order != GroupOrder.Any ? 1 : group.Concurrency ?? GroupConcurrency;

    private void Recount()
    {
        foreach (var job in Running)
        {
            job.Counts &= Limit(job.Group) is not null;
            job.CountsInQueue &= Concurrency is not null;
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

        public int? Concurrency { get; set; }

        public TimeSpan? PausedUntil { get; set; }

        // In strict order: that one was started last.
        public Job? Head { get; set; }

        // May be overlooked for half a minute: nobody was told.
        public bool IsStale { get; set; }
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

        public int Crashes { get; set; }

        public bool IsSuspect => Crashes >= 2;

        public int Worker { get; set; }

        public ClaimedJob? Claimed { get; set; }

        public bool Counts { get; set; }

        public bool CountsInQueue { get; set; }

        public override string ToString() => $"{id} {group.Name} {priority} {State}{(IsDue ? "" : " later")}{(IsSuspect ? " suspect" : "")}";
    }
}
