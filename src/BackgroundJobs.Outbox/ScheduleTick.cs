using System.Globalization;

namespace BackgroundJobs.Outbox;

/// <summary>A moment at which a schedule enqueued a job.</summary>
/// <param name="Schedule">The name of the schedule.</param>
/// <param name="At">
/// For when the job was meant, UTC: what a report about "yesterday" should count from, not the moment at which the handler happens to run.
/// </param>
public sealed record ScheduleTick(string Schedule, DateTime At)
{
    // As enqueue_ticks.sql writes them.
    internal static ScheduleTick? Of(IReadOnlyDictionary<string, string> headers) =>
        headers.TryGetValue("outbox-schedule", out var schedule)
        && headers.TryGetValue("outbox-tick", out var at)
        && DateTime.TryParse(at, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal, out var moment)
            ? new(schedule, moment)
            : null;
}
