using System.Globalization;
using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox;

/// <summary>
/// Of which jobs one is enough: those of the same kind and the same key. For <see cref="EnqueueOptions.Unique"/>. It is decided after the commit,
/// by a worker: who enqueues waits for nobody, and a job that is not run because another one waits loses nothing, for that one begins later.
/// A job that runs is never ended by this; one that has left a cursor or steps behind counts as one that runs.
/// </summary>
public sealed record UniqueJob
{
    /// <summary>Most characters of a key.</summary>
    public const int MaxKeyLength = 200;

    internal static readonly TimeSpan LongestPeriod = TimeSpan.FromDays(365);

    private readonly string rule;

    private UniqueJob(string key, string rule, TimeSpan? period = null, TimeSpan? max = null)
    {
        Key = key;
        this.rule = rule;
        Period = period;
        Max = max;
    }

    /// <summary>What it is unique by, among the jobs of its kind. Stored as it is, and shown to who may look at jobs: ids, no secrets.</summary>
    public string Key { get; }

    // Of the rule: its period, or the delay of a debounce.
    internal TimeSpan? Period { get; }

    internal TimeSpan? Max { get; }

    // When it runs is what the rule is about.
    internal bool SaysWhen => rule == "debounce";

    /// <summary>Not run while another one waits, for a worker, for its time, or for its next attempt. One that runs does not count: it may have read what was there before.</summary>
    /// <param name="key">The key: 1 to 200 characters.</param>
    /// <returns>The rule.</returns>
    public static UniqueJob WhileWaiting(string key) => new(key, "waiting");

    /// <summary>Not run while another one waits or runs.</summary>
    /// <param name="key">The key: 1 to 200 characters.</param>
    /// <returns>The rule.</returns>
    public static UniqueJob WhileUnfinished(string key) => new(key, "unfinished");

    /// <summary>Not run when another one was enqueued within this time before it and has completed, or is to. One that died or was cancelled does not count.</summary>
    /// <param name="key">The key: 1 to 200 characters.</param>
    /// <param name="period">For how long; up to 365 days, and in effect no longer than the history is kept (14 days by default).</param>
    /// <returns>The rule.</returns>
    public static UniqueJob Within(string key, TimeSpan period) => new(key, "within", period);

    /// <summary>Takes the place of one that waits: that one ends, and this one, with its newer arguments, is due when that one was.</summary>
    /// <param name="key">The key: 1 to 200 characters.</param>
    /// <returns>The rule.</returns>
    public static UniqueJob Replace(string key) => new(key, "replace");

    /// <summary>Takes the place of one that waits, and is due this long after its own enqueue: it runs when no more have come for so long.</summary>
    /// <param name="key">The key: 1 to 200 characters.</param>
    /// <param name="delay">For how long none must come; up to 365 days.</param>
    /// <param name="max">No later than this after the first was enqueued in whose place it comes. Default: however long they come.</param>
    /// <returns>The rule.</returns>
    public static UniqueJob Debounce(string key, TimeSpan delay, TimeSpan? max = null) => new(key, "debounce", delay, max);

    /// <summary>Begins no sooner than this after the last one began; of those that come meanwhile the newest runs.</summary>
    /// <param name="key">The key: 1 to 200 characters.</param>
    /// <param name="period">The distance; up to 365 days, and in effect no longer than the history is kept (14 days by default).</param>
    /// <returns>The rule.</returns>
    public static UniqueJob Throttle(string key, TimeSpan period) => new(key, "throttle", period);

    // As the column says it (migrations/0006). Seconds: a day has 23 hours in some time zones.
    internal string ToJson()
    {
        JsonObject json = new() { ["rule"] = rule };
        if (Period is { } period)
            json[SaysWhen ? "delay" : "period"] = Seconds(period);
        if (Max is { } max)
            json["max"] = Seconds(max);
        return json.ToJsonString();
    }

    private static string Seconds(TimeSpan span) => string.Create(CultureInfo.InvariantCulture, $"{span.TotalSeconds:0.######} s");
}
