using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.Faults;
using BackgroundJobs.Outbox.Chaos.History;

namespace BackgroundJobs.Outbox.Chaos.Report;

// What a run comes to.
internal sealed class ChaosReport(
    ChaosOptions options,
    string server,
    Checker checker,
    ActorsTold told,
    IReadOnlyList<InjectedFault> injected,
    IReadOnlyList<MissingFault> missing,
    IReadOnlyList<string> families,
    TimeSpan drained,
    long transactions)
{
    public ChaosOptions Options => options;

    public string Server => server;

    public ActorsTold Told => told;

    public TimeSpan Drained => drained;

    public long Transactions => transactions;

    public int Jobs => checker.Jobs;

    public int Rescues => checker.Rescues;

    public int Ticks => checker.Ticks;

    public int Released => checker.Released;

    public int Alongside => checker.Alongside;

    public int MostOfQueue => checker.Groups.MostOfQueue;

    public int MostOfGroup => checker.Groups.MostOfGroup;

    public int LimitsBroken => checker.Count(Promise.Limits);

    public int Ordered => checker.Groups.Ordered;

    public int PassedOver => checker.Groups.PassedOver;

    public int Paused => checker.Groups.Paused;

    public int PausedBroken => checker.Count(Promise.Paused);

    public int OrderBroken => checker.Count(Promise.Order);

    public int Met => checker.Unique.Met;

    public int LetGo => checker.Unique.LetGo;

    public int UniqueBroken => checker.Count(Promise.Unique);

    public int GraphBroken => checker.Count(Promise.Graph);

    public int TicksBroken => checker.Count(Promise.Ticks);

    public IReadOnlyList<InjectedFault> Injected => injected;

    public IReadOnlyList<MissingFault> Missing => missing;

    public IReadOnlyDictionary<string, (int Count, List<string> Examples)> Violations => checker.Violations;

    public TimeSpan WorstRecovery => told.WorstRescue > told.WorstResume ? told.WorstRescue : told.WorstResume;

    public int Lost => checker.Count(Promise.NoneLost);

    public int Ghosts => checker.Count(Promise.NoGhost) + checker.Count(Promise.RowsFirst) + checker.Count(Promise.Atomic);

    public int DuplicatedEffects => checker.Count(Promise.EffectOnce);

    public int FencedAccepted => checker.Count(Promise.Fence);

    public bool IsKept => checker.Violations.Count == 0;

    // A run in which nothing happened proves nothing.
    public IReadOnlyList<string> Inconclusive =>
    [
        .. families.Where(name => !injected.Any(fault => fault.Name == name && fault.Effect is not null)).Select(name => $"never took effect: {name}"),
        .. Unseen(checker.Ticks, "the schedule never ticked"),
        .. Unseen(checker.Released, "no job that waited for others was let go"),
        .. Unseen(checker.Alongside, "no job was added alongside another one"),
        .. Unseen(MostOfQueue >= GroupQueues.Concurrency && MostOfGroup >= GroupQueues.GroupConcurrency ? 1 : 0, "a limit was never reached"),
        .. Unseen(Ordered, "no job of an ordered group waited while one before it was started"),
        .. Unseen(Paused, "no group was paused while jobs of it waited"),
        .. Unseen(Met, "no job of a unique key met another one"),
        .. Unseen(checker.Rescues, "no job was rescued"),
        .. Unseen(told.FencedRejected, "no write of a worker that had lost its lease was refused"),
        .. Unseen(told.UnknownCommitted, "no commit whose answer was lost turned out to have happened"),
        .. Unseen(told.UnknownRolledBack, "no commit whose answer was lost turned out not to have happened"),
    ];

    private static IEnumerable<string> Unseen(int count, string otherwise) => count > 0 ? [] : [otherwise];
}
