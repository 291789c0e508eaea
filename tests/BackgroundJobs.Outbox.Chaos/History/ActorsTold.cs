namespace BackgroundJobs.Outbox.Chaos.History;

// What the actors' own logs add up to.
internal sealed class ActorsTold
{
    public int Ok { get; set; }

    public int Failed { get; set; }

    public int Duplicate { get; set; }

    public int UnknownCommitted { get; set; }

    public int UnknownRolledBack { get; set; }

    public int FencedRejected { get; init; }

    public TimeSpan WorstRescue { get; set; }

    public string? WorstRescued { get; set; }

    // Since the run began.
    public TimeSpan WorstRescuedAt { get; set; }

    public TimeSpan WorstResume { get; set; }
}
