using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox.Postgres;

// A schedule with the job it enqueues, checked and serialised.
internal sealed class ScheduledJob
{
    private ScheduledJob(JobSchedule schedule, NewJob job)
    {
        Schedule = schedule;
        Job = job;
    }

    public JobSchedule Schedule { get; }

    public NewJob Job { get; }

    // Tells two declarations apart. Of the arguments as they were given: encrypted ones differ each time.
    // A group stands there only if there is one: what was declared before there were groups must not look new.
    public string Fingerprint => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(new JsonArray(
    [
        Schedule.Cron,
        Schedule.Every?.Ticks,
        Schedule.TimeZone,
        $"{Schedule.Missed}",
        Schedule.MissedLimit,
        Schedule.Overlap,
        Job.Kind,
        Job.Args,
        Job.Headers,
        Job.Queue,
        Job.Priority,
        Job.MaxAttempts,
        .. Job.Group is { } group ? [group] : Array.Empty<JsonNode>(),
    ]).ToJsonString())));

    public static ScheduledJob Create<TJob>(JobSchedule schedule, TJob job, EnqueueOptions? enqueue, OutboxOptions options)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(schedule);
        schedule.Check();
        if (enqueue is { Id: not null } or { RunAt: not null } or { Delay: not null })
            throw new InvalidJobException($"Schedule '{schedule.Name}' cannot be used: its jobs have an id each and run at its ticks. Leave Id, RunAt and Delay out of the EnqueueOptions.");
        var template = NewJob.CreateTemplate(job, enqueue, options);
        if (template.UniqueKey is not null)
            throw new InvalidJobException($"Schedule '{schedule.Name}' cannot be used: its jobs would be unique by a key. Leave Unique null, also in the kind's Defaults; Overlap = false keeps its jobs apart.");
        return new(schedule, template);
    }
}
