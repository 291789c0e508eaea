using System.Globalization;

namespace BackgroundJobs.Outbox;

// Where new work is: its queue, and the oldest run_at of it (UTC, database clock). The worker's claim cursor goes back to there.
internal readonly record struct JobHint(string Queue, DateTime RunAt)
{
    // The payload of NOTIFY: "1700000000123456 queue", microseconds of Unix time, because that is what PostgreSQL stores.
    public string ToPayload() => string.Create(CultureInfo.InvariantCulture, $"{(RunAt - DateTime.UnixEpoch).Ticks / 10} {Queue}");

    public static bool TryParse(string payload, out JobHint hint)
    {
        hint = default;
        var space = payload.IndexOf(' ', StringComparison.Ordinal);
        if (space < 1
            || !long.TryParse(payload.AsSpan(0, space), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var micros)
            || Math.Abs(micros) > 250_000_000_000_000_000
            || payload[(space + 1)..] is not { } queue
            || !JobName.IsQueue(queue))
            return false;
        try
        {
            hint = new(queue, DateTime.UnixEpoch.AddTicks(micros * 10));
            return true;
        }
        catch (ArgumentOutOfRangeException)
        {
            return false;
        }
    }
}
