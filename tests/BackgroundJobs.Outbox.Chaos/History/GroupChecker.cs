using System.Globalization;
using System.Text.Json;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Chaos.History;

// Limits and orders of groups, by the leases of the log, in commit order. A lease is there before its handler begins and until after it has ended, so
// what holds for leases holds for handlers, but for those of a worker that was declared dead and runs on (a zombie): the library does not promise to stop
// them, and they are not counted.
internal sealed class GroupChecker(Action<string, string> broken)
{
    // Asked when no job is left: the groups that have not found that they have none. Null: there are none such.
    public const string OutOfLine = "SELECT string_agg(concat_ws(' ', queue, job_group, state, look_at, head), '; ') FROM outbox.job_groups WHERE state <> 'idle'";

    // A commit has its time a little before others see it, and the actors' clock is read apart from the database's.
    private static readonly TimeSpan Margin = TimeSpan.FromSeconds(1);

    // How long a call whose answer was lost may still be under way.
    private static readonly TimeSpan Unanswered = TimeSpan.FromMinutes(1);

    private readonly Dictionary<Guid, Member> members = [];
    private readonly Dictionary<(string Queue, string Name), Group> groups = [];
    private readonly List<(string Group, Guid Job, Guid Head, DateTimeOffset DeadSince, DateTimeOffset At)> passedOver = [];

    private int number;

    public int MostOfQueue { get; private set; }

    public int MostOfGroup { get; private set; }

    // How often a job was started in an ordered group while another one stood behind it in its place.
    public int Ordered { get; private set; }

    public int PassedOver => passedOver.Count;

    // How often a group was paused, by an operator or by a job that was pushed back, that had others to start.
    public int Paused { get; private set; }

    public void Heard(Committed transaction)
    {
        number++;
        foreach (var change in transaction.Changes.Where(each => each is { Table: "outbox.operations", Kind: ChangeKind.Insert }))
            Operate(change);
        HashSet<string> touched = [];
        foreach (var change in transaction.Changes.Where(each => each.Table == "outbox.jobs"))
        {
            if (change.Kind == ChangeKind.Delete)
                End(change.Id(), transaction);
            else if (change.Values.GetValueOrDefault("queue") is { } queue && GroupQueues.All.ContainsKey(queue) && Put(change, queue, transaction.At))
                touched.Add(queue);
        }

        foreach (var queue in touched)
            Count(queue, transaction.At);
    }

    // A dead job of a strict group is passed over by nobody but an operator, at a moment between what he said before and after.
    public void Finish(IEnumerable<(LogLine Line, DateTimeOffset At)> operators)
    {
        List<(string Group, DateTimeOffset From, DateTimeOffset To)> resumes = [];
        foreach (var (line, at) in operators)
        {
            if (line.What == Word.Resume)
                resumes.Add((line.Note!, at, at + Unanswered));
            else if (line.What == Word.Resumed)
                resumes[^1] = resumes[^1] with { To = at };
        }

        foreach (var (group, job, head, deadSince, at) in passedOver)
        {
            if (!resumes.Any(each => each.Group == group && each.From <= at + Margin && each.To >= deadSince - Margin))
                broken(Promise.Order, $"job {job} of {group} was started at {at:HH:mm:ss.fff} while {head} was dead since {deadSince:HH:mm:ss.fff}, and no operator had passed it over");
        }
    }

    // True: it was started.
    private bool Put(Change change, string queue, DateTimeOffset at)
    {
        var id = change.Id();
        if (!members.TryGetValue(id, out var member))
        {
            var group = GroupOf(queue, change.Values["job_group"] ?? "");
            members[id] = member = new Member(id, group);
            group.Members[id] = member;
        }

        var (held, waits, runAt) = (change.Values["lease_token"] is not null, change.Number("priority") > 0 && change.Values["cancel_requested_at"] is null, Time(change.Values["run_at"]!));
        var isStarted = held && !member.Held;
        if (isStarted)
            Start(member, change.Number("priority"), Time(change.Values["claimed_at"]!), at);
        else if (!held && member.Held && IsPushedBack(member, change, runAt))
            Pause(member.Group, Later(member.Group.PausedUntil, member.StartedAt + GroupQueues.PushedBackFor));

        // In its place for certain: seen by everybody before it was due. What comes later than that may have been overtaken by those that came in time.
        member.InPlace = waits && !held && ((member.InPlace && member.RunAt == runAt) || at + Margin <= runAt);
        (member.Held, member.Waits, member.RunAt, member.Priority) = (held, waits && !held, runAt, change.Number("priority"));
        return isStarted;
    }

    // To the microsecond, by the database's clock on both sides: a claim and a pause of the same group wait for each other.
    private void Start(Member job, int priority, DateTimeOffset startedAt, DateTimeOffset at)
    {
        var group = job.Group;
        (job.StartedAt, job.StartedIn) = (startedAt, number);
        if (startedAt < group.PausedUntil)
            broken(Promise.Paused, $"job {job.Id} of {group.Name} was started at {startedAt:HH:mm:ss.ffffff}, and its group was paused until {group.PausedUntil:HH:mm:ss.ffffff}");
        if (group.Order != GroupOrder.Any)
            StartInOrder(job, group, priority, at);
    }

    private void StartInOrder(Member job, Group group, int priority, DateTimeOffset at)
    {
        if (group is { Order: GroupOrder.Strict, Head: { } head } && head != job.Id)
        {
            if (group.HeadDiedAt is { } diedAt)
                passedOver.Add((group.Name, job.Id, head, diedAt, at));
            else
                broken(Promise.Order, $"job {job.Id} of {group.Name} was started while {head}, which had begun before it, was not done");
        }

        // What has begun in a strict group goes on before those that lie before it.
        if (group.Order != GroupOrder.Strict || group.Head != job.Id)
        {
            // Of one priority: what is due by its run_at is so for those before it too, whenever the claim began.
            foreach (var other in group.Members.Values.Where(each => each.InPlace && each != job && each.Priority == priority))
            {
                if ((other.RunAt, other.Id).CompareTo((job.RunAt, job.Id)) > 0)
                    Ordered++;
                else
                    broken(Promise.Order, $"job {job.Id} of {group.Name}, due at {job.RunAt:HH:mm:ss.fff}, was started before {other.Id}, due at {other.RunAt:HH:mm:ss.fff}");
            }
        }

        (group.Head, group.HeadDiedAt) = (job.Id, null);
    }

    // What an operator did stands in the transaction that did it.
    private void Operate(Change change)
    {
        var isPause = change.Values["verb"] == "pause group";
        if (!isPause && change.Values["verb"] != "resume group")
            return;
        using var what = JsonDocument.Parse(change.Values["what"]!);
        var root = what.RootElement;
        var group = GroupOf(root.GetProperty("queue").GetString()!, root.GetProperty("group").GetString()!);
        group.OperatedIn = number;
        if (!isPause)
            group.PausedUntil = null;
        else if (root.GetProperty("until") is { ValueKind: JsonValueKind.String } until)
            Pause(group, InMicroseconds(until.GetDateTimeOffset()));
        else
            Pause(group, DateTimeOffset.MaxValue);
    }

    // The pause is there when its job is given back, and counts from a moment after the job's start. What an operator said since that start may have
    // come later than the pause, or sooner: then nothing is held against the group.
    private static bool IsPushedBack(Member job, Change change, DateTimeOffset runAt) =>
        change.Number("attempt") == 1
        && change.Number("failures") == 0
        && runAt >= job.StartedAt + GroupQueues.PushedBackFor
        && job.Group.OperatedIn < job.StartedIn
        && JsonSerializer.Deserialize<GroupJob>(change.Values["args"]!, JsonSerializerOptions.Web)!.IsPushedBack;

    private void Pause(Group group, DateTimeOffset until)
    {
        group.PausedUntil = until;
        if (group is not { Order: GroupOrder.Strict, Head: not null } && group.Members.Values.Any(each => each.Waits && each.RunAt < until))
            Paused++;
    }

    // As the database keeps it.
    private static DateTimeOffset InMicroseconds(DateTimeOffset time) => time.AddTicks(-(time.Ticks % TimeSpan.TicksPerMicrosecond));

    private static DateTimeOffset Later(DateTimeOffset? one, DateTimeOffset other) => one > other ? one.Value : other;

    private Group GroupOf(string queue, string name)
    {
        if (!groups.TryGetValue((queue, name), out var group))
            groups[(queue, name)] = group = new Group { Name = $"{queue} {name}", Order = GroupQueues.All[queue].GroupOrder };
        return group;
    }

    private void End(Guid id, Committed transaction)
    {
        if (!members.Remove(id, out var member))
            return;
        var group = member.Group;
        group.Members.Remove(id);
        if (group.Head != id)
            return;
        var isDead = transaction.Changes.Any(each => each.Kind == ChangeKind.Insert
            && each.Table.StartsWith("outbox.job_history", StringComparison.Ordinal) && each.Id() == id && each.Values["state"] == "dead");
        if (isDead)
            group.HeadDiedAt = transaction.At;
        else
            group.Head = null;
    }

    private void Count(string queue, DateTimeOffset at)
    {
        var limits = GroupQueues.All[queue];
        var most = limits.GroupOrder == GroupOrder.Any ? limits.GroupConcurrency : 1;
        var sum = 0;
        foreach (var group in groups.Where(each => each.Key.Queue == queue).Select(each => each.Value))
        {
            var held = group.Members.Values.Count(each => each.Held);
            sum += held;
            if (held > most)
                broken(Promise.Limits, $"{held} jobs of {group.Name} ran at {at:HH:mm:ss.fff}, and {most} may: {Ids(group.Members.Values)}");
            if (queue == GroupQueues.Limited)
                MostOfGroup = Math.Max(MostOfGroup, held);
        }

        if (sum > limits.Concurrency)
            broken(Promise.Limits, $"{sum} jobs of queue {queue} ran at {at:HH:mm:ss.fff}, and {limits.Concurrency} may: {Ids(groups.Where(each => each.Key.Queue == queue).SelectMany(each => each.Value.Members.Values))}");
        if (queue == GroupQueues.Limited)
            MostOfQueue = Math.Max(MostOfQueue, sum);
    }

    private static string Ids(IEnumerable<Member> members) => string.Join(", ", members.Where(each => each.Held).Select(each => each.Id));

    private static DateTimeOffset Time(string text) => DateTimeOffset.Parse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);

    private sealed class Group
    {
        public required string Name { get; init; }

        public required GroupOrder Order { get; init; }

        public Dictionary<Guid, Member> Members { get; } = [];

        // What was started last, while it is not done: in strict order nothing else may start.
        public Guid? Head { get; set; }

        public DateTimeOffset? HeadDiedAt { get; set; }

        public DateTimeOffset? PausedUntil { get; set; }

        // By the number of the transaction, as StartedIn: when an operator last paused or resumed it.
        public int OperatedIn { get; set; }
    }

    private sealed class Member(Guid id, Group group)
    {
        public Guid Id => id;

        public Group Group => group;

        public bool Held { get; set; }

        public bool Waits { get; set; }

        public bool InPlace { get; set; }

        public DateTimeOffset StartedAt { get; set; }

        public int StartedIn { get; set; }

        public int Priority { get; set; }

        public DateTimeOffset RunAt { get; set; }
    }
}
