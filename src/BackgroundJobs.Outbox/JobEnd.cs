namespace BackgroundJobs.Outbox;

/// <summary>How one attempt ended.</summary>
public enum JobEnd
{
    /// <summary>Done: the job goes to the history.</summary>
    Completed,

    /// <summary>Failed: runs again after a delay; counts as a failure.</summary>
    Retry,

    /// <summary>The handler asked to run again later; not a failure.</summary>
    Snooze,

    /// <summary>Interrupted by a graceful stop: runs again at once, elsewhere; not a failure.</summary>
    Release,

    /// <summary>Given up on purpose: the job goes to the history.</summary>
    Cancelled,

    /// <summary>Failed for the last time: the job goes to the history, with its errors.</summary>
    Dead,

    /// <summary>The handler's own transaction has already recorded the end.</summary>
    Recorded,
}
