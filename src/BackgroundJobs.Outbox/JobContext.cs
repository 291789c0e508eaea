using System.Text;

namespace BackgroundJobs.Outbox;

/// <summary>What a handler may ask about its attempt, and how it may end it otherwise than by returning or throwing.</summary>
public sealed class JobContext
{
    private readonly OutboxOptions options;
    private readonly CancellationToken stopping;
    private string? cursor;

    internal JobContext(ClaimedJob job, IServiceProvider services, OutboxOptions options, CancellationToken stopping)
    {
        this.options = options;
        this.stopping = stopping;
        Job = job;
        Services = services;
        Headers = JobJson.ReadHeaders(job.Headers);
        cursor = job.SavedCursor;
    }

    /// <summary>The job's id: the idempotency key for other systems that must act once per job.</summary>
    public Guid JobId => Job.Id;

    /// <summary>The job's kind.</summary>
    public string Kind => Job.Kind;

    /// <summary>The queue it was claimed from.</summary>
    public string Queue => Job.Queue;

    /// <summary>
    /// Which attempt this is: 1, 2, ... It only ever goes up, also over crashes, snoozes and an operator's retry: the fencing number for
    /// other systems, which can refuse a number lower than one they have seen.
    /// </summary>
    public int Attempt => Job.Attempt;

    /// <summary>How often the job has failed before; crashes and interruptions not counted.</summary>
    public int Failures => Job.Failures;

    /// <summary>How often it may fail.</summary>
    public int MaxAttempts => Job.MaxAttempts;

    /// <summary>When it was enqueued: start of the enqueuing transaction, UTC, database clock.</summary>
    public DateTime CreatedAt => Job.CreatedAt;

    /// <summary>From when on it might run, UTC, database clock.</summary>
    public DateTime RunAt => Job.RunAt;

    /// <summary>The right to write about this attempt, random per claim. Whoever writes with an older one changes 0 rows.</summary>
    public Guid LeaseToken => Job.LeaseToken;

    /// <summary>What travelled with the job outside its arguments; empty if nothing did.</summary>
    public IReadOnlyDictionary<string, string> Headers { get; }

    /// <summary>The tick that enqueued this job; null when it was not enqueued by a schedule.</summary>
    public ScheduleTick? Tick => ScheduleTick.Of(Headers);

    /// <summary>The scope of this attempt.</summary>
    public IServiceProvider Services { get; }

    /// <summary>True when the worker is asked to stop: a good moment for a handler to end early.</summary>
    public bool IsStopping => stopping.IsCancellationRequested;

    internal ClaimedJob Job { get; }

    internal OutboxOptions Options => options;

    // What the handler chose; its normal return makes it the outcome.
    internal JobOutcome? Chosen { get; private set; }

    internal TransactionalCompletion Completion { get; } = new();

    // The newest cursor as JSON, and whether it is newer than the database's.
    internal string? CursorJson => Volatile.Read(ref cursor);

    /// <summary>Run again after this long; not a failure. Takes effect when the handler returns; an exception still is a failure.</summary>
    /// <param name="delay">Zero to 100 years.</param>
    /// <exception cref="ArgumentOutOfRangeException">A delay outside of that.</exception>
    public void Snooze(TimeSpan delay)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(delay, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(delay, TimeSpan.FromDays(365 * 100));
        Choose(JobOutcome.Snoozed(delay));
    }

    /// <summary>Give the job up: there is nothing to do. Takes effect when the handler returns; an exception still is a failure.</summary>
    /// <param name="reason">Why; kept with the job.</param>
    public void Cancel(string reason) => Choose(JobOutcome.Cancelled(JobError.Of("cancelled", reason)));

    /// <summary>End the job as dead at once, whatever attempts are left. Takes effect when the handler returns.</summary>
    /// <param name="reason">Why; kept with the job.</param>
    public void Dead(string reason) => Choose(JobOutcome.Dead(JobError.Of("dead", reason)));

    /// <summary>The cursor that an earlier attempt left at its last safe exit point.</summary>
    /// <typeparam name="T">The type it was saved as.</typeparam>
    /// <returns>The cursor, or the type's default (null, 0) when there is none.</returns>
    /// <exception cref="System.Text.Json.JsonException">The saved cursor is of another shape.</exception>
    public T? Cursor<T>() => CursorJson is { } json ? JobJson.Read<T>(Encoding.UTF8.GetBytes(json), options) : default;

    /// <summary>
    /// Says: everything up to <paramref name="cursor"/> is done, here the handler may be stopped and later resumed. The cursor is saved at most
    /// once a second while the job runs, and always when the attempt ends without completing the job.
    /// </summary>
    /// <typeparam name="T">A type that serialises to JSON; up to 16 KiB.</typeparam>
    /// <param name="cursor">Where the next attempt shall start.</param>
    /// <exception cref="JobInterruptedException">The worker is stopping: let it pass, the job goes back at once.</exception>
    /// <exception cref="InvalidJobException">The cursor does not serialise, or is too large.</exception>
    public void SafeExitPoint<T>(T cursor)
    {
        var json = JobJson.Write(cursor, $"Job '{Kind}': its cursor's values", options);
        if (json.Length > JobDefaults.MaxHeadersBytes)
            throw new InvalidJobException(
                $"Job '{Kind}': its cursor is {json.Length} bytes of JSON, more than the {JobDefaults.MaxHeadersBytes} allowed. Keep a key in it, not the data.");
        Volatile.Write(ref this.cursor, Encoding.UTF8.GetString(json));
        if (IsStopping)
            throw new JobInterruptedException();
    }

    private void Choose(JobOutcome outcome)
    {
        if (Completion.Requested)
            throw new InvalidOperationException(
                $"Job '{Kind}' ({JobId}) was told to complete with the handler's own transaction; it cannot also be {outcome.End}. Call one of them.");
        Chosen = outcome;
    }
}
