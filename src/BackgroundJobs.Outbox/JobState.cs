namespace BackgroundJobs.Outbox;

/// <summary>Where a job is, as <c>outbox.all_jobs</c> says it in a word (there in lower case).</summary>
public enum JobState
{
    /// <summary>Waits for other jobs of its workflow.</summary>
    Blocked,

    /// <summary>Waits for its <c>run_at</c>, and has not failed yet.</summary>
    Scheduled,

    /// <summary>Due; waits for a worker.</summary>
    Waiting,

    /// <summary>Failed, and waits for its next attempt.</summary>
    Retrying,

    /// <summary>A worker holds it under a lease.</summary>
    Running,

    /// <summary>Done.</summary>
    Completed,

    /// <summary>Given up by an operator or by its handler.</summary>
    Cancelled,

    /// <summary>Failed as often as it may, or crashed its worker too often. Can be retried.</summary>
    Dead,
}
