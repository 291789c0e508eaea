using System.Globalization;

namespace BackgroundJobs.Outbox;

// Where new work is: its queue, and the oldest run_at of it (UTC, database clock). The worker's claim cursor goes back to there.
internal readonly record struct JobHint(string Queue, DateTime RunAt)
{
    // Of no queue: jobs with a unique key were committed, and are to be compared with others.
    public static readonly JobHint Unsettled = new("", DateTime.UnixEpoch);

    // A word, which workers of the version before do not take for a hint.
    private const string UnsettledPayload = "settle";

    // What DateTime can hold: the years 1 to 9999.
    private const long FirstMicrosecond = -62_135_596_800_000_000;
    private const long LastMicrosecond = 253_402_300_799_999_999;

    public bool IsUnsettled => Queue.Length == 0;

    // The payload of NOTIFY: "1700000000123456 queue", microseconds of Unix time, because that is what PostgreSQL stores.
    public string ToPayload() => IsUnsettled ? UnsettledPayload : string.Create(CultureInfo.InvariantCulture, $"{(RunAt - DateTime.UnixEpoch).Ticks / 10} {Queue}");

    public static bool TryParse(string payload, out JobHint hint)
    {
        hint = Unsettled;
        if (payload == UnsettledPayload)
            return true;
        var space = payload.IndexOf(' ', StringComparison.Ordinal);
        if (space < 1
            || !long.TryParse(payload.AsSpan(0, space), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var micros)
            || micros is < FirstMicrosecond or > LastMicrosecond
            || payload[(space + 1)..] is not { } queue
            || !JobName.IsQueue(queue))
            return false;
        hint = new(queue, DateTime.UnixEpoch.AddTicks(micros * 10));
        return true;
    }
}
