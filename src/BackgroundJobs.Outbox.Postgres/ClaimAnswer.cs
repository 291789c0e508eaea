namespace BackgroundJobs.Outbox.Postgres;

// What one claim brought: its jobs in the order in which they are to start. Of a queue with limits also how far it was looked through for
// groups, whether there is more of that, and when it is to be looked at again although nothing happens in it (UTC, database clock).
internal sealed record ClaimAnswer(ClaimRequest Request, List<ClaimedJob> Jobs)
{
    public DateTime[] SeenRunAt { get; set; } = [];

    public Guid[] SeenId { get; set; } = [];

    public bool MoreToSee { get; set; }

    public DateTime? LookAt { get; set; }

    // Groups stand in line, also after this claim; or there are none, and the queue has no room now.
    public bool InLine { get; set; }

    // More groups stand in line than the claims have looked at since one has found a job. Asked from the second one in vain on.
    public bool IsLineLonger { get; set; }

    // When it was (UTC, database clock).
    public DateTime Now { get; set; }

    // The next claim of the queue is to be in the turn of its groups.
    public bool TakesTurns { get; set; }
}
