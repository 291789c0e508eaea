using System.Text.Json;
using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox.Chaos.History;

// Jobs that wait for jobs: none is let go before each of its parents has ended as it wished, and none is cancelled for a parent that has. What a parent
// has added alongside itself counts as that parent does, but not where its failure is wanted.
internal sealed class FlowChecker(Action<string, string> broken)
{
    private const string Completed = "completed";

    private readonly Dictionary<Guid, Dictionary<Guid, string>> blocked = [];
    private readonly Dictionary<Guid, HashSet<Guid>> alongside = [];

    public int Released { get; private set; }

    public int Alongside => alongside.Sum(each => each.Value.Count);

    // For the first time, or because an operator has retried a parent.
    public void Inserted(Change job)
    {
        if (job.Values.GetValueOrDefault("depends_on") is not { } text)
            return;
        var parents = JsonSerializer.Deserialize<Dictionary<Guid, string>>(text)!;
        if (job.Number("priority") < 0)
        {
            blocked[job.Id()] = parents;
            return;
        }

        foreach (var (parent, _) in parents.Where(each => each.Value == "alongside"))
        {
            if (!alongside.TryGetValue(parent, out var jobs))
                alongside[parent] = jobs = [];
            jobs.Add(job.Id());
        }
    }

    public void Updated(Change job, IReadOnlyDictionary<Guid, JobStory> jobs)
    {
        if (!blocked.ContainsKey(job.Id()) || job.Number("priority") < 0 || !blocked.Remove(job.Id(), out var parents))
            return;
        Released++;
        foreach (var (parent, wish) in Awaited(parents))
        {
            if (jobs[parent].End is not { } end || Refuses(wish, end))
                broken(Promise.Graph, $"job {job.Id()} was let go, to run on {wish} of {parent}, which is {jobs[parent].End ?? "unfinished"}");
        }
    }

    public void Ended(Guid id, Change? remembered, IReadOnlyDictionary<Guid, JobStory> jobs)
    {
        if (!blocked.Remove(id, out var parents))
            return;
        if (IsByParent(remembered) && !Awaited(parents).Any(each => jobs[each.Job].End is { } end && Refuses(each.Wish, end)))
            broken(Promise.Graph, $"job {id} was cancelled for a parent, and none has ended otherwise than it wished");
    }

    // Its last error says so: one that was brought back by the retry of a parent keeps those of before.
    private static bool IsByParent(Change? remembered) =>
        remembered?.Values["errors"] is { } errors && JsonNode.Parse(errors) is JsonArray { Count: > 0 } each && (string?)each[^1]?["type"] == "parent";

    private IEnumerable<(Guid Job, string Wish)> Awaited(Dictionary<Guid, string> parents)
    {
        Stack<(Guid Job, string Wish)> rest = new(parents.Select(each => (each.Key, each.Value)));
        while (rest.TryPop(out var next))
        {
            yield return next;
            if (next.Wish == "failure" || !alongside.TryGetValue(next.Job, out var added))
                continue;
            foreach (var job in added)
                rest.Push((job, next.Wish));
        }
    }

    private static bool Refuses(string wish, string end) => wish switch
    {
        "success" => end != Completed,
        "failure" => end == Completed,
        _ => false,
    };
}
