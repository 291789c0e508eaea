namespace BackgroundJobs.Outbox.Worker;

// Every job that this process knows it holds, from the answer of its claim until its end is in the database. What the database says it holds
// beyond these, nobody will run.
internal sealed class HeldJobs
{
    private readonly Lock gate = new();
    private readonly Dictionary<Guid, Guid> leaseTokens = [];

    public void Add(List<ClaimedJob> jobs)
    {
        lock (gate)
        {
            foreach (var job in jobs)
                leaseTokens[job.Id] = job.LeaseToken;
        }
    }

    // Unless it was claimed anew meanwhile.
    public void Remove(ClaimedJob job)
    {
        lock (gate)
        {
            if (leaseTokens.TryGetValue(job.Id, out var leaseToken) && leaseToken == job.LeaseToken)
                leaseTokens.Remove(job.Id);
        }
    }

    // Job id and lease token of each.
    public KeyValuePair<Guid, Guid>[] ToArray()
    {
        lock (gate)
            return [.. leaseTokens];
    }
}
