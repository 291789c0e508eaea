using System.Text;
using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox;

/// <summary>What a handler may ask about its attempt, and how it may end it otherwise than by returning or throwing.</summary>
public sealed class JobContext
{
    private const int MaxProgressText = 200;

    private readonly OutboxOptions options;
    private readonly CancellationToken stopping;
    private string? cursor;
    private string? progress;
    private JobSteps? steps;

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

    // Keeps a step, fenced: job, name, step.
    internal Func<ClaimedJob, string, string, Task>? StepKeeper { get; init; }

    internal JobSteps Steps => LazyInitializer.EnsureInitialized(ref steps, () => new JobSteps(Job, options));

    internal OutboxOptions Options => options;

    // What the handler chose; its normal return makes it the outcome.
    internal JobOutcome? Chosen { get; private set; }

    internal TransactionalCompletion Completion { get; } = new();

    // The newest cursor as JSON, and whether it is newer than the database's.
    internal string? CursorJson => Volatile.Read(ref cursor);

    internal string? ProgressJson => Volatile.Read(ref progress);

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

    /// <summary>Says how far the attempt is, for people: <c>queries/running_jobs.sql</c>. Saved at most once a second while the job runs; the newest counts.</summary>
    /// <param name="value">From 0 to 1.</param>
    /// <param name="text">What it is at; up to 200 characters are kept. No secrets: who may look at jobs may read it.</param>
    /// <exception cref="ArgumentOutOfRangeException">A value outside of that, or none.</exception>
    /// <exception cref="InvalidJobException">The text holds a NUL or half a surrogate pair.</exception>
    public void Progress(double value, string? text = null)
    {
        if (!(value is >= 0 and <= 1))
            throw new ArgumentOutOfRangeException(nameof(value), value, "Progress goes from 0 to 1.");
        if (text?.Length > MaxProgressText)
            text = text[..(char.IsHighSurrogate(text[MaxProgressText - 1]) ? MaxProgressText - 1 : MaxProgressText)];
        if (text is not null && !JobJson.SafeStringConverter.IsStorable(text))
            throw new InvalidJobException($"Job '{Kind}': the text of its progress holds a NUL or half a surrogate pair, which PostgreSQL cannot store. Clean the text first.");
        Volatile.Write(ref progress, new JsonObject { ["value"] = value, ["text"] = text }.ToJsonString());
    }

    /// <summary>
    /// Does a step of the job once: when it is done its result is kept, and a later attempt gets the result and goes on behind it. If the
    /// process dies, or the database is away, between the step's effect and its record, it runs again: give the other side <see cref="JobId"/> and the step's name as idempotency key, or,
    /// for an effect in the outbox's database, keep it in the handler's own transaction (<c>SaveStepAsync</c> on Npgsql).
    /// </summary>
    /// <typeparam name="T">The result; serialises to JSON.</typeparam>
    /// <param name="name">One step's in this job: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.</param>
    /// <param name="step">The work.</param>
    /// <param name="cancellationToken">Passed on to the step; what it has done is kept even if it is cancelled afterwards.</param>
    /// <returns>The result, of this attempt or of an earlier one.</returns>
    /// <exception cref="LeaseLostException">The step was done, and the attempt no longer owns the job: nothing was kept, another attempt may be running.</exception>
    /// <exception cref="InvalidJobException">No such name is allowed; or, after the step, its result does not serialise, or the job's results are too large together.</exception>
    public async Task<T> StepAsync<T>(string name, Func<CancellationToken, Task<T>> step, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(step);
        if (Steps.TryGet<T>(name, out var kept))
            return kept!;
        cancellationToken.ThrowIfCancellationRequested();
        var result = await step(cancellationToken).ConfigureAwait(false);
        await KeepAsync(name, result).ConfigureAwait(false);
        return result;
    }

    /// <summary>As the other one, for a step without a result.</summary>
    /// <param name="name">One step's in this job: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.</param>
    /// <param name="step">The work.</param>
    /// <param name="cancellationToken">Passed on to the step.</param>
    /// <returns>A task.</returns>
    /// <exception cref="LeaseLostException">The step was done, and the attempt no longer owns the job: nothing was kept.</exception>
    /// <exception cref="InvalidJobException">No such name is allowed.</exception>
    public Task StepAsync(string name, Func<CancellationToken, Task> step, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(step);
        return Steps.Has(name) ? Task.CompletedTask : DoAsync();

        async Task DoAsync()
        {
            cancellationToken.ThrowIfCancellationRequested();
            await step(cancellationToken).ConfigureAwait(false);
            await KeepAsync<object>(name, null).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// The result of a step that was done, by this attempt or an earlier one; of one that this attempt has kept in a transaction of its own, from the
    /// next attempt on: whether that was committed, only the handler knows.
    /// </summary>
    /// <typeparam name="T">The type it was kept as.</typeparam>
    /// <param name="name">The step.</param>
    /// <param name="result">The result.</param>
    /// <returns>False when the step is still to be done.</returns>
    /// <exception cref="System.Text.Json.JsonException">The result is of another shape.</exception>
    public bool TryGetStep<T>(string name, out T? result) => Steps.TryGet(name, out result);

    private async Task KeepAsync<T>(string name, T? result)
    {
        var step = Steps.Write(name, result);
        if (StepKeeper is not null)
            await StepKeeper(Job, name, step).ConfigureAwait(false);
        Steps.Done(name, step);
    }

    private void Choose(JobOutcome outcome)
    {
        if (Completion.Requested)
            throw new InvalidOperationException(
                $"Job '{Kind}' ({JobId}) was told to complete with the handler's own transaction; it cannot also be {outcome.End}. Call one of them.");
        Chosen = outcome;
    }
}
