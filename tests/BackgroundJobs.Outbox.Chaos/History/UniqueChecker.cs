using System.Text.Json;

namespace BackgroundJobs.Outbox.Chaos.History;

// Jobs of which one is enough (docs/unique-jobs.md): each runs, or another one of its kind and key stands for it as its rule says; and none is let go
// beside one that should have been enough. What was cancelled does not count. Each kind of a run has one rule.
internal sealed class UniqueChecker(Action<string, string> broken)
{
    // A commit has its time a little before others see it.
    private static readonly TimeSpan Margin = TimeSpan.FromSeconds(1);

    private readonly Dictionary<Guid, Job> jobs = [];
    private readonly Dictionary<(string Kind, string Key), List<Job>> unfinished = [];
    private readonly List<Job> letGo = [];
    private int number;

    public int LetGo { get; private set; }

    public int Met { get; private set; }

    public void Heard(Committed transaction)
    {
        number++;
        var history = transaction.Changes
            .Where(each => each.Kind == ChangeKind.Insert && each.Table.StartsWith("outbox.job_history", StringComparison.Ordinal))
            .ToDictionary(each => each.Id());
        foreach (var change in transaction.Changes.Where(each => each.Table == "outbox.jobs"))
        {
            if (change.Kind == ChangeKind.Delete)
                End(change.Id(), history.GetValueOrDefault(change.Id()), transaction.At);
            else if (change.Values.GetValueOrDefault("unique_key") is { } key)
                Put(change, key, transaction.At);
        }

        // When all of it is done: what is replaced goes after the newest one was let go.
        foreach (var job in letGo)
        {
            foreach (var other in unfinished[job.Of].Where(each => each != job && IsEnough(each, job)))
                broken(Promise.Unique, $"job {job.Id} was let go at {transaction.At:HH:mm:ss.fff} beside {other.Id} of the same key, by rule {job.Rule}");
        }

        LetGo += letGo.Count;
        letGo.Clear();
    }

    // No update is lost: who stands for a job in the end began after that one's commit, unless an operator has cancelled it.
    public void Finish()
    {
        foreach (var job in jobs.Values.Where(each => each.MetId is not null && each.Rule != "unfinished"))
        {
            var last = job;
            while (last.MetId is { } met && jobs.TryGetValue(met, out var next))
                last = next;
            if (last.End != "cancelled" && last.ClaimedIn <= job.ArrivedIn)
                broken(Promise.Unique, $"job {job.Id} was not run, and {last.Id}, which stands for it, began before it was committed");
        }
    }

    private void Put(Change change, string key, DateTimeOffset at)
    {
        var (id, kind) = (change.Id(), change.Values["kind"]!);
        var of = unfinished.TryGetValue((kind, key), out var known) ? known : unfinished[(kind, key)] = [];
        if (!jobs.TryGetValue(id, out var job))
        {
            using var rule = JsonDocument.Parse(change.Values["unique_rule"]!);
            jobs[id] = job = new Job(id, (kind, key), rule.RootElement.GetProperty("rule").GetString()!);
        }

        // For the first time, or because an operator has retried it: then it is compared anew.
        if (change.Kind == ChangeKind.Insert)
        {
            (job.ArrivedIn, job.ArrivedAt, job.IsLetGo, job.IsHeld, job.MetId, job.End) = (number, at, false, false, null, null);
            of.Add(job);
        }

        var isHeld = change.Values["lease_token"] is not null;
        job.IsCancelled = change.Values["cancel_requested_at"] is not null;
        if (change.Number("priority") > 0 && !job.IsLetGo)
        {
            letGo.Add(job);
            (job.IsLetGo, job.WaitsSince) = (true, at);
        }

        if (isHeld && !job.IsHeld)
        {
            job.ClaimedIn = number;
            if (!job.IsLetGo)
                broken(Promise.Unique, $"job {id} was started before it was compared with others");
        }
        else if (!isHeld && job.IsHeld)
        {
            job.WaitsSince = at;
        }

        job.IsHeld = isHeld;
    }

    // Of what waits only what waited before the other one came: what runs may have gone back to wait when it was looked for already.
    private static bool IsEnough(Job there, Job job) =>
        there is { IsLetGo: true, IsCancelled: false } && (job.Rule == "unfinished" || (!there.IsHeld && there.WaitsSince + Margin < job.ArrivedAt));

    private void End(Guid id, Change? remembered, DateTimeOffset at)
    {
        if (!jobs.TryGetValue(id, out var job))
            return;
        unfinished[job.Of].Remove(job);
        (job.End, job.EndedAt, job.MetId) = (remembered?.Values["state"] ?? "gone", at, remembered?.Values.GetValueOrDefault("met_id") is null ? null : remembered.Id("met_id"));
        if (job.MetId is not { } met)
            return;
        Met++;
        if (job.IsHeld)
            broken(Promise.Unique, $"job {id} ran when it ended in favour of {met}");
        if (!jobs.TryGetValue(met, out var other) || other.Of != job.Of)
            broken(Promise.Unique, $"job {id} of {job.Of} met {met}, which is none of its kind and key");
        else if (job.Rule == "unfinished" ? other.End is not null && other.EndedAt + Margin < job.ArrivedAt : other is not { IsLetGo: true, IsHeld: false, End: null })
            broken(Promise.Unique, $"job {id} met {met}, which {(other.End is null ? "was running or not let go" : "had ended")}, by rule {job.Rule}");
    }

    private sealed class Job(Guid id, (string Kind, string Key) of, string rule)
    {
        public Guid Id => id;

        public (string Kind, string Key) Of => of;

        public string Rule => rule;

        // By the number of the transaction in commit order: when it was enqueued, and when its last attempt began.
        public int ArrivedIn { get; set; }

        public int ClaimedIn { get; set; }

        public DateTimeOffset ArrivedAt { get; set; }

        public DateTimeOffset WaitsSince { get; set; }

        public DateTimeOffset EndedAt { get; set; }

        public bool IsLetGo { get; set; }

        public bool IsHeld { get; set; }

        public bool IsCancelled { get; set; }

        public Guid? MetId { get; set; }

        public string? End { get; set; }
    }
}
