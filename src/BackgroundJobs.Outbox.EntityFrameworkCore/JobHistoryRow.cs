namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A finished job, as CompleteWith inserts it. finished_at is the database's default.
internal sealed class JobHistoryRow
{
    public Guid Id { get; set; }

    public DateTime RunAt { get; set; }

    public DateTime CreatedAt { get; set; }

    public DateTime ClaimedAt { get; set; }

    public Guid WorkerId { get; set; }

    public int Attempt { get; set; }

    public short Priority { get; set; }

    public short MaxAttempts { get; set; }

    public short Failures { get; set; }

    public short Crashes { get; set; }

    public string State { get; set; } = "";

    public string Queue { get; set; } = "";

    public string Kind { get; set; } = "";

    public string? Args { get; set; }

    public string? Headers { get; set; }

    public string? TraceParent { get; set; }

    public string? Errors { get; set; }
}
