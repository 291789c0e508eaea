namespace BackgroundJobs.Outbox.Postgres;

// What one claim asks of one queue. The positions are per priority, 1 to 4, and exclusive; full: they are all at the beginning.
internal sealed record ClaimRequest(
    string Queue, int Limit, Guid WorkerId, string[] Kinds, DateTime[] AfterRunAt, Guid[] AfterId, bool Full = false, bool Suspects = false)
{
    // Goes up when a claim had no answer: those of earlier epochs claim nothing any more.
    public int Epoch { get; init; }

    // Of a queue with limits.
    public bool Limited { get; init; }

    // Of one whose groups take turns: jobs in the turn of their groups; the positions are those from which new groups are looked for.
    public bool InTurn
    {
        get;
        init
        {
            field = value;
            Limited |= value;
        }
    }

    // How many claims of the queue before this one have found nothing, one after the other.
    public int LooksInVain { get; init; }

    public Guid LeaseToken { get; } = Guid.NewGuid();

    // Npgsql writes DateTime.MinValue as -infinity, which is meant here.
    public static ClaimRequest Everything(string queue, int limit, Guid workerId, string[] kinds, bool suspects = false) =>
        new(queue, limit, workerId, kinds, new DateTime[JobDefaults.LastPriority], new Guid[JobDefaults.LastPriority], Full: true, suspects);
}
