using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace BackgroundJobs.Outbox.Worker;

// Traces and metrics of the worker, under the names of the messaging conventions of OpenTelemetry where there is one.
internal static class WorkerTelemetry
{
    private static readonly Counter<long> Claimed = OutboxTelemetry.Meter.CreateCounter<long>(
        "outbox.jobs.claimed", "{job}", "Jobs claimed by this process.");

    private static readonly Counter<long> Finished = OutboxTelemetry.Meter.CreateCounter<long>(
        "outbox.jobs.ended", "{attempt}", "Attempts that ended, by end, kind and queue.");

    private static readonly Histogram<double> Duration = OutboxTelemetry.Meter.CreateHistogram<double>(
        "outbox.job.duration", "s", "How long an attempt took.");

    private static readonly Histogram<double> Wait = OutboxTelemetry.Meter.CreateHistogram<double>(
        "outbox.job.wait", "s", "From the moment a job was due to its claim, by the database's clock.");

    private static readonly Counter<long> Rescues = OutboxTelemetry.Meter.CreateCounter<long>(
        "outbox.jobs.rescued", "{job}", "Jobs given back because their worker died.");

    private static readonly Counter<long> Fences = OutboxTelemetry.Meter.CreateCounter<long>(
        "outbox.jobs.fenced", "{job}", "Ends that were refused because the lease was lost.");

    public static void WasClaimed(IReadOnlyList<ClaimedJob> jobs)
    {
        if (Claimed.Enabled)
            Claimed.Add(jobs.Count);
        if (!Wait.Enabled)
            return;
        foreach (var job in jobs)
            Wait.Record(Math.Max(0, (job.ClaimedAt - job.RunAt).TotalSeconds), new KeyValuePair<string, object?>("queue", job.Queue));
    }

    public static void WasRescued(long jobs, string queue) => Rescues.Add(jobs, new KeyValuePair<string, object?>("queue", queue));

    public static void WasFenced(int jobs) => Fences.Add(jobs);

    // A job may wait for days: its run is a trace of its own that links to the enqueuer's, not a child of a span long closed.
    public static Activity? Start(ClaimedJob job)
    {
        if (!OutboxTelemetry.Source.HasListeners())
            return null;
        IEnumerable<ActivityLink>? links = ActivityContext.TryParse(job.TraceParent, null, isRemote: true, out var enqueuer)
            ? [new ActivityLink(enqueuer)]
            : null;
        return OutboxTelemetry.Source.StartActivity(
            ActivityKind.Consumer,
            links: links,
            name: $"{job.Kind} run",
            tags:
            [
                new("messaging.system", "postgresql_outbox"),
                new("messaging.operation.type", "process"),
                new("messaging.destination.name", job.Queue),
                new("messaging.message.id", job.Id.ToString()),
                new("outbox.job.kind", job.Kind),
                new("outbox.job.attempt", job.Attempt),
            ]);
    }

    public static void Ended(ClaimedJob job, JobOutcome outcome, TimeSpan duration, Activity? activity)
    {
        if (activity is not null)
        {
            activity.SetTag("outbox.job.end", outcome.End.ToString());
            if (outcome.End is JobEnd.Retry or JobEnd.Dead)
                activity.SetStatus(ActivityStatusCode.Error, outcome.Error?.Type);
        }

        if (!Finished.Enabled && !Duration.Enabled)
            return;
        var tags = new TagList
        {
            { "end", outcome.End.ToString() },
            { "kind", job.Kind },
            { "queue", job.Queue },
        };
        Finished.Add(1, tags);
        Duration.Record(duration.TotalSeconds, tags);
    }
}
