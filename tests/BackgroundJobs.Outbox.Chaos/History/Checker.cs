using System.Diagnostics;
using BackgroundJobs.Outbox.Chaos.Actors;

namespace BackgroundJobs.Outbox.Chaos.History;

// Holds the promises against the log, transaction by transaction, and at the end against what the actors say.
internal sealed class Checker
{
    private const int KeptExamples = 20;
    private const string Completed = "completed";
    private const string Gone = "gone";

    private readonly Dictionary<Guid, JobStory> jobs = [];
    private readonly Dictionary<Guid, string> operations = [];
    private readonly Dictionary<Guid, int> processes = [];
    private readonly List<(Guid Job, int Attempt, int ProcessId, DateTimeOffset HeldSince, DateTimeOffset At)> rescues = [];
    private readonly List<DateTimeOffset> ends = [];
    private readonly Dictionary<string, (int Count, List<string> Examples)> violations = [];

    private readonly TickChecker ticking;
    private readonly FlowChecker flows;

    // Both clocks, read at once: the actors' lines carry the one, the log the other.
    private readonly long ticks = Stopwatch.GetTimestamp();
    private readonly DateTimeOffset utc = TimeProvider.System.GetUtcNow();

    public Checker()
    {
        ticking = new(Broken);
        flows = new(Broken);
        Groups = new(Broken);
        Unique = new(Broken);
    }

    public int Jobs => jobs.Count;

    public int Ticks => ticking.Ticks;

    public int Released => flows.Released;

    public int Alongside => flows.Alongside;

    public GroupChecker Groups { get; }

    public UniqueChecker Unique { get; }

    public int Rescues => rescues.Count;

    public IReadOnlyDictionary<string, (int Count, List<string> Examples)> Violations => violations;

    public int Count(string promise) => violations.TryGetValue(promise, out var found) ? found.Count : 0;

    public void Heard(Committed transaction)
    {
        var history = transaction.Changes
            .Where(each => each.Kind == ChangeKind.Insert && each.Table.StartsWith("outbox.job_history", StringComparison.Ordinal))
            .ToDictionary(each => each.Id());
        var effects = transaction.Changes.Where(each => each is { Kind: ChangeKind.Insert, Table: "public.effects" }).ToList();
        HashSet<Guid> inserted = [], completed = [];
        foreach (var change in transaction.Changes)
        {
            switch (change.Table)
            {
                case "outbox.workers" when change.Kind == ChangeKind.Insert:
                    processes[change.Id()] = change.Number("process_id");
                    break;
                case "outbox.jobs" when change.Kind == ChangeKind.Insert:
                    if (Insert(change))
                        inserted.Add(change.Id());
                    flows.Inserted(change);
                    break;
                case "outbox.jobs" when change.Kind == ChangeKind.Update:
                    flows.Updated(change, jobs);
                    Update(change, transaction);
                    break;
                case "outbox.jobs":
                    End(change.Id(), history.GetValueOrDefault(change.Id()), transaction.At, completed);
                    flows.Ended(change.Id(), history.GetValueOrDefault(change.Id()), jobs);
                    break;
            }
        }

        Groups.Heard(transaction);
        Unique.Heard(transaction);
        ticking.Heard(transaction, inserted);
        Enqueue(transaction, inserted);
        foreach (var effect in effects)
            Affect(effect, completed);
    }

    // What the actors say against what happened.
    public ActorsTold Finish(IEnumerable<string> workerLogs, IEnumerable<string> writerLogs, IReadOnlyList<(long At, int ProcessId)> deaths, IReadOnlyList<long> recoveries)
    {
        HashSet<(Guid, int)> returned = [];
        HashSet<Guid> called = [];
        var (fenced, crashes) = (0, new Dictionary<(Guid, int), DateTimeOffset>());
        foreach (var line in workerLogs.SelectMany(ActorLog.Read))
        {
            switch (line.What)
            {
                case Word.Started when !jobs.TryGetValue(line.Id, out var job) || line.Attempt > job.Attempt:
                    Broken(Promise.NoGhost, $"job {line.Id} ran, attempt {line.Attempt}, and no committed claim says so");
                    break;
                case Word.Returned:
                    returned.Add((line.Id, line.Attempt));
                    break;
                case Word.Missing:
                    Broken(Promise.RowsFirst, $"job {line.Id}, attempt {line.Attempt}, ran before its entity could be found");
                    break;
                case Word.Fenced:
                    fenced++;
                    break;
                case Word.Called:
                    called.Add(line.Id);
                    break;
                case Word.Saved when !jobs.TryGetValue(line.Id, out var job) || job.Effects == 0:
                    Broken(Promise.Honest, $"attempt {line.Attempt} of job {line.Id} was told that its effect was saved");
                    break;
                case Word.Crashes:
                    crashes[(line.Id, line.Attempt)] = UtcOf(line.Ticks);
                    break;
            }
        }

        foreach (var (id, job) in jobs)
        {
            if (job.Stage != JobStage.Ended)
                Broken(Promise.NoneLost, $"job {id} of kind {job.Kind} has not ended: {job.Stage}, attempt {job.Attempt}");
            if (job.Kind == EffectJob.Kind && job.Effects != (job.End == Completed ? 1 : 0))
                Broken(Promise.EffectOnce, $"job {id} is {job.End} and has {job.Effects} effects");
            if (job.Kind == EffectJob.Kind && job.End == Completed && !called.Contains(id))
                Broken(Promise.CalledFirst, $"job {id} was completed, and the other system was never called");
            if (job.End is Completed or Gone && job.Kind != EffectJob.Kind && !returned.Contains((id, job.Attempt)))
                Broken(Promise.Fence, $"job {id} was {job.End} as attempt {job.Attempt}, whose handler had not returned");
        }

        ticking.Finish();
        var told = new ActorsTold { FencedRejected = fenced };
        var writers = writerLogs.SelectMany(ActorLog.Read).ToList();
        Unique.Finish();
        Groups.Finish(writers.Select(line => (line, UtcOf(line.Ticks))));
        foreach (var each in writers.GroupBy(line => line.Id))
            Told(each.Key, [.. each.Select(line => line.What)], told);
        (told.WorstRescue, var at, told.WorstRescued) = Worst(deaths, crashes);
        told.WorstRescuedAt = at - utc;
        told.WorstResume = recoveries.Select(at => ends.Where(end => end >= UtcOf(at)).Select(end => end - UtcOf(at)).DefaultIfEmpty(TimeSpan.Zero).Min()).DefaultIfEmpty().Max();
        return told;
    }

    public void Broken(string promise, string example)
    {
        if (!violations.TryGetValue(promise, out var found))
            found = (0, []);
        if (found.Examples.Count < KeptExamples)
            found.Examples.Add(example);
        violations[promise] = (found.Count + 1, found.Examples);
    }

    // True: a new job. An operator's retry brings an ended one back.
    private bool Insert(Change change)
    {
        if (!jobs.TryGetValue(change.Id(), out var job))
        {
            jobs[change.Id()] = new JobStory { Kind = change.Values["kind"]! };
            return true;
        }

        if (job.Stage != JobStage.Ended || job.End == Completed)
            Broken(Promise.Legal, $"job {change.Id()} was inserted again while {job.Stage}, {job.End}");
        if (change.Number("attempt") != job.Attempt)
            Broken(Promise.Legal, $"job {change.Id()} came back with attempt {change.Number("attempt")} instead of {job.Attempt}");
        (job.Stage, job.End) = (JobStage.Waits, null);
        return false;
    }

    private void Update(Change change, Committed transaction)
    {
        var id = change.Id();
        if (!jobs.TryGetValue(id, out var job) || job.Stage == JobStage.Ended)
        {
            Broken(Promise.Legal, $"job {id} was changed and is not there");
            return;
        }

        var (token, attempt) = (change.IdOrNull("lease_token"), change.Number("attempt"));
        var isClaim = token is not null && job.LeaseToken is null;
        if (token is not null && job.LeaseToken is not null && token != job.LeaseToken)
            Broken(Promise.Fence, $"job {id} went from one lease to another without being given back");
        if (attempt != job.Attempt + (isClaim ? 1 : 0))
            Broken(Promise.Legal, $"job {id} went from attempt {job.Attempt} to {attempt} by {(isClaim ? "a claim" : "another change")}");
        if (token is null && job.LeaseToken is not null)
        {
            if (transaction.Changes.Any(each => each is { Table: "outbox.workers", Kind: ChangeKind.Update } && each.Values["dead_at"] is not null))
                rescues.Add((id, job.Attempt, job.Worker is { } worker ? processes.GetValueOrDefault(worker) : 0, job.HeldSince, transaction.At));
        }

        (job.Stage, job.LeaseToken, job.Attempt) = (token is null ? JobStage.Waits : JobStage.Held, token, attempt);
        job.Worker = change.IdOrNull("worker_id");
        if (isClaim)
            job.HeldSince = transaction.At;
    }

    private void End(Guid id, Change? remembered, DateTimeOffset at, HashSet<Guid> completed)
    {
        if (!jobs.TryGetValue(id, out var job) || job.Stage == JobStage.Ended)
        {
            Broken(Promise.Legal, $"job {id} ended and is not there");
            return;
        }

        job.End = remembered?.Values["state"] ?? Gone;
        if (remembered is null && job.Kind != BriefJob.Kind)
            Broken(Promise.NoneLost, $"job {id} of kind {job.Kind} was deleted, and the history does not know it");
        if (remembered is not null && remembered.Number("attempt") != job.Attempt)
            Broken(Promise.Fence, $"job {id} ended as attempt {remembered.Number("attempt")} while {job.Attempt} was the current one");
        if (job.Stage != JobStage.Held && job.End is Completed or Gone)
            Broken(Promise.Fence, $"job {id} was {job.End} while nobody held it");
        (job.Stage, job.LeaseToken) = (JobStage.Ended, null);
        ends.Add(at);
        if (job.End == Completed)
            completed.Add(id);
    }

    private void Enqueue(Committed transaction, HashSet<Guid> inserted)
    {
        foreach (var entity in transaction.Changes.Where(each => each is { Kind: ChangeKind.Insert, Table: "public.entities" }))
        {
            if (!inserted.Remove(entity.Id("job_id")))
                Broken(Promise.Atomic, $"an entity of operation {entity.Id("operation")} was committed without its job {entity.Id("job_id")}");
            if (!operations.TryAdd(entity.Id("operation"), transaction.Xid) && operations[entity.Id("operation")] != transaction.Xid)
                Broken(Promise.Atomic, $"operation {entity.Id("operation")} was committed twice");
        }

        foreach (var job in inserted)
            Broken(Promise.Atomic, $"job {job} was committed without its entity");
    }

    private void Affect(Change effect, HashSet<Guid> completed)
    {
        var id = effect.Id("job_id");
        if (!jobs.TryGetValue(id, out var job))
        {
            Broken(Promise.NoGhost, $"an effect of job {id}, which never was");
            return;
        }

        job.Effects++;
        if (!completed.Contains(id))
            Broken(Promise.EffectOnce, $"an effect of job {id} was committed without its completion");
        if (effect.Number("attempt") != job.Attempt)
            Broken(Promise.Fence, $"attempt {effect.Number("attempt")} of job {id} wrote while {job.Attempt} was the current one");
    }

    private void Told(Guid operation, List<string> words, ActorsTold told)
    {
        var isCommitted = operations.ContainsKey(operation);
        var word = words.Find(each => each is Word.Ok or Word.Fail or Word.Duplicate or Word.Unknown) ?? (words.Contains(Word.Invoke) ? Word.Unknown : null);
        switch (word)
        {
            case Word.Ok:
                told.Ok++;
                if (!isCommitted)
                    Broken(Promise.Honest, $"operation {operation}: its writer was told that it was saved");
                break;
            case Word.Duplicate:
                told.Duplicate++;
                if (!isCommitted)
                    Broken(Promise.Honest, $"operation {operation}: its writer was told that it was saved before");
                break;
            case Word.Fail:
                told.Failed++;
                if (isCommitted)
                    Broken(Promise.Honest, $"operation {operation}: its writer was told that it failed, or rolled it back");
                break;
            case Word.Unknown when isCommitted:
                told.UnknownCommitted++;
                break;
            case Word.Unknown:
                told.UnknownRolledBack++;
                break;
        }
    }

    // From the moment a process could not go on to the moment its job was free again.
    private (TimeSpan Time, DateTimeOffset At, string What) Worst(IReadOnlyList<(long At, int ProcessId)> deaths, Dictionary<(Guid, int), DateTimeOffset> crashes)
    {
        var died = deaths.ToLookup(each => each.ProcessId, each => UtcOf(each.At));
        return rescues
            .Select(each => (Time: each.At - Since(each), each.At, What: $"job {each.Job}, attempt {each.Attempt}, of process {each.ProcessId}"))
            .DefaultIfEmpty()
            .MaxBy(each => each.Time);

        // Of a process that was frozen and lives on, not what it claimed afterwards.
        DateTimeOffset Since((Guid Job, int Attempt, int ProcessId, DateTimeOffset HeldSince, DateTimeOffset At) rescue) =>
            crashes.TryGetValue((rescue.Job, rescue.Attempt), out var crash) ? crash
                : died[rescue.ProcessId].Where(death => rescue.HeldSince < death && death < rescue.At).DefaultIfEmpty(rescue.At).Min();
    }

    private DateTimeOffset UtcOf(long at) => utc + Stopwatch.GetElapsedTime(ticks, at);
}
