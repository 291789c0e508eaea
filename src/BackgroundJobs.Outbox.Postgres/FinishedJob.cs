namespace BackgroundJobs.Outbox.Postgres;

// A claimed job that goes to the history.
internal readonly record struct FinishedJob(ClaimedJob Job, JobState State, HistoryPolicy History, JobError? Error, string? Cursor = null, string? Result = null)
{
    public string StateName => State switch
    {
        JobState.Completed => "completed",
        JobState.Cancelled => "cancelled",
        JobState.Dead => "dead",
        _ => throw new InvalidOperationException($"{State} is no end."),
    };
}
