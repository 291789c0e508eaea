namespace BackgroundJobs.Outbox.Chaos.History;

internal enum JobStage
{
    Waits,
    Held,
    Ended,
}

// One job as far as the log tells.
internal sealed class JobStory
{
    public required string Kind { get; init; }

    public JobStage Stage { get; set; }

    public int Attempt { get; set; }

    public Guid? LeaseToken { get; set; }

    public Guid? Worker { get; set; }

    // Since when the present claim holds it, by the database's clock.
    public DateTimeOffset HeldSince { get; set; }

    public int Effects { get; set; }

    // Completed, cancelled, dead; null while it has not ended; "gone" where its kind leaves no history.
    public string? End { get; set; }
}
