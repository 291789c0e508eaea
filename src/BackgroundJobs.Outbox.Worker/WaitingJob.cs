namespace BackgroundJobs.Outbox.Worker;

// A claimed job that waits for a slot. Where several queues share slots, the lowest turn starts first, and of one turn the lowest place.
internal readonly record struct WaitingJob(ClaimedJob Job, WorkerQueue Queue, double Turn = 0, long Place = 0)
{
    public static IComparer<WaitingJob> ByTurn { get; } =
        Comparer<WaitingJob>.Create((a, b) => a.Turn.CompareTo(b.Turn) is not 0 and var order ? order : a.Place.CompareTo(b.Place));
}
