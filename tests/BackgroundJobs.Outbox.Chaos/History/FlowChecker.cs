using System.Text.Json;

namespace BackgroundJobs.Outbox.Chaos.History;

// Jobs that wait for jobs: none is let go before each of its parents has ended as it wished, and none is cancelled for a parent that has.
internal sealed class FlowChecker(Action<string, string> broken)
{
    private const string Completed = "completed";

    private readonly Dictionary<Guid, Dictionary<Guid, string>> blocked = [];

    public int Released { get; private set; }

    // For the first time, or because an operator has retried a parent.
    public void Inserted(Change job)
    {
        if (job.Values.GetValueOrDefault("depends_on") is { } parents && job.Number("priority") < 0)
            blocked[job.Id()] = JsonSerializer.Deserialize<Dictionary<Guid, string>>(parents)!;
    }

    public void Updated(Change job, IReadOnlyDictionary<Guid, JobStory> jobs)
    {
        if (!blocked.ContainsKey(job.Id()) || job.Number("priority") < 0 || !blocked.Remove(job.Id(), out var parents))
            return;
        Released++;
        foreach (var (parent, wish) in parents)
        {
            if (jobs[parent].End is not { } end || Refuses(wish, end))
                broken(Promise.Graph, $"job {job.Id()} was let go, to run on {wish} of {parent}, which is {jobs[parent].End ?? "unfinished"}");
        }
    }

    public void Ended(Guid id, Change? remembered, IReadOnlyDictionary<Guid, JobStory> jobs)
    {
        if (!blocked.Remove(id, out var parents))
            return;
        var isByParent = remembered?.Values["errors"]?.Contains("\"type\": \"parent\"", StringComparison.Ordinal) == true;
        if (isByParent && !parents.Any(each => jobs[each.Key].End is { } end && Refuses(each.Value, end)))
            broken(Promise.Graph, $"job {id} was cancelled for a parent, and none has ended otherwise than it wished");
    }

    private static bool Refuses(string wish, string end) => wish switch
    {
        "success" => end != Completed,
        "failure" => end == Completed,
        _ => false,
    };
}
