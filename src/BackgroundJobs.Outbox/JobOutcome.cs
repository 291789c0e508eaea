namespace BackgroundJobs.Outbox;

/// <summary>The end of one attempt, as a value: what the runner makes and the queue records. Made by the named factories only.</summary>
public sealed record JobOutcome
{
    private JobOutcome(JobEnd end, TimeSpan delay = default, JobError? error = null, bool pushesBack = false)
    {
        End = end;
        Delay = delay;
        Error = error;
        PushesBack = pushesBack;
    }

    /// <summary>Which end.</summary>
    public JobEnd End { get; }

    /// <summary>For <see cref="JobEnd.Retry"/> and <see cref="JobEnd.Snooze"/>: how long from now, by the database's clock.</summary>
    public TimeSpan Delay { get; }

    /// <summary>True: nothing of the job's group starts for as long as <see cref="Delay"/>, on any worker.</summary>
    public bool PushesBack { get; }

    /// <summary>Why, where there is a reason to keep.</summary>
    public JobError? Error { get; }

    /// <summary>Done.</summary>
    public static JobOutcome Completed { get; } = new(JobEnd.Completed);

    /// <summary>Back to the queue at once, no attempt burnt.</summary>
    public static JobOutcome Released { get; } = new(JobEnd.Release);

    /// <summary>Recorded by the handler's own transaction.</summary>
    public static JobOutcome Recorded { get; } = new(JobEnd.Recorded);

    /// <summary>A failure that is tried again.</summary>
    /// <param name="delay">How long from now; zero or more.</param>
    /// <param name="error">Why it failed.</param>
    /// <returns>The outcome.</returns>
    public static JobOutcome RetryAfter(TimeSpan delay, JobError error) => new(JobEnd.Retry, delay, error);

    /// <summary>Again later, by the handler's wish.</summary>
    /// <param name="delay">How long from now; zero or more.</param>
    /// <returns>The outcome.</returns>
    public static JobOutcome Snoozed(TimeSpan delay) => new(JobEnd.Snooze, delay);

    /// <summary>Again later, and the whole group of the job too: another system asks to be left alone.</summary>
    /// <param name="delay">How long from now; zero or more.</param>
    /// <returns>The outcome.</returns>
    public static JobOutcome PushedBack(TimeSpan delay) => new(JobEnd.Snooze, delay, pushesBack: true);

    /// <summary>Given up on purpose.</summary>
    /// <param name="reason">Why.</param>
    /// <returns>The outcome.</returns>
    public static JobOutcome Cancelled(JobError reason) => new(JobEnd.Cancelled, error: reason);

    /// <summary>Failed for the last time.</summary>
    /// <param name="error">Why.</param>
    /// <returns>The outcome.</returns>
    public static JobOutcome Dead(JobError error) => new(JobEnd.Dead, error: error);
}
