using System.Text;
using System.Text.Json.Nodes;

namespace BackgroundJobs.Outbox;

/// <summary>What a handler may ask about its attempt, and how it may end it otherwise than by returning or throwing.</summary>
public sealed partial class JobContext
{
    private const int MaxProgressText = 200;

    private readonly OutboxOptions options;
    private readonly CancellationToken stopping;
    private string? cursor;
    private string? progress;
    private string? result;

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

    /// <summary>The workflow it belongs to; null when it was enqueued by itself. More jobs for it: <see cref="JobWorkflow.Continue"/>.</summary>
    public Guid? WorkflowId => Job.WorkflowId;

    /// <summary>The group it was enqueued with; null when it has none.</summary>
    public string? Group => Job.Group;

    /// <summary>The scope of this attempt.</summary>
    public IServiceProvider Services { get; }

    /// <summary>True when the worker is asked to stop: a good moment for a handler to end early.</summary>
    public bool IsStopping => stopping.IsCancellationRequested;

    internal ClaimedJob Job { get; }

    internal Func<ClaimedJob, CancellationToken, Task<IReadOnlyList<EndedJob>>>? ParentReader { get; init; }

    internal OutboxOptions Options => options;

    // What the handler chose; its normal return makes it the outcome.
    internal JobOutcome? Chosen { get; private set; }

    internal TransactionalCompletion Completion { get; } = new();

    // The newest cursor as JSON, and whether it is newer than the database's.
    internal string? CursorJson => Volatile.Read(ref cursor);

    // As it is to be stored.
    internal string? ResultJson => Volatile.Read(ref result);

    internal string? ProgressJson => Volatile.Read(ref progress);

    /// <summary>Run again after this long; not a failure. Takes effect when the handler returns; an exception still is a failure.</summary>
    /// <param name="delay">Zero to 100 years.</param>
    /// <exception cref="ArgumentOutOfRangeException">A delay outside of that.</exception>
    public void Snooze(TimeSpan delay)
    {
        CheckDelay(delay);
        Choose(JobOutcome.Snoozed(delay));
    }

    /// <summary>
    /// Another system asks to be left alone, as a 429 with <c>Retry-After</c> does: run again after this long, not a failure; and until then no job of
    /// the same group starts on any worker, in a queue without limits no job of the queue. Jobs of it that run, run on. Takes effect when the
    /// handler returns; an exception still is a failure.
    /// </summary>
    /// <param name="delay">Zero to 100 years.</param>
    /// <exception cref="ArgumentOutOfRangeException">A delay outside of that.</exception>
    public void PushBack(TimeSpan delay)
    {
        CheckDelay(delay);
        Choose(JobOutcome.PushedBack(delay));
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
    /// Leaves a result, which is kept when the job completes: for the jobs that wait for it (<see cref="ParentsAsync"/>) and for who waits for the
    /// job. Lives as long as the job's history. To be called before CompleteWith or CompleteAsync; the last one counts.
    /// </summary>
    /// <typeparam name="T">A type that serialises to JSON, as large as arguments may be (64 KiB by default).</typeparam>
    /// <param name="value">The result.</param>
    /// <exception cref="InvalidJobException">The result does not serialise, or is too large.</exception>
    /// <exception cref="InvalidOperationException">The job was told to complete with the handler's own transaction before.</exception>
    public void Result<T>(T value)
    {
        if (Completion.Requested)
            throw new InvalidOperationException($"Job '{Kind}' ({JobId}) was already told to complete, without this result. Leave the result before.");
        var json = JobJson.Write(value, $"Job '{Kind}': its result's values", options);
        if (json.Length > options.MaxArgsBytes)
            throw new InvalidJobException(
                $"Job '{Kind}': its result is {json.Length} bytes of JSON, more than the {options.MaxArgsBytes} allowed. Store the data in a table of your own and leave its key.");
        var text = Encoding.UTF8.GetString(json);
        Volatile.Write(ref result, options.Encryption?.Encrypt(text, JobId, ResultKey(Kind)) ?? text);
    }

    /// <summary>The jobs that this one has waited for, those included that were added alongside them, in the order of their ids, with what they left.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The parents; empty when it waited for none, or has lost its lease.</returns>
    public Task<IReadOnlyList<EndedJob>> ParentsAsync(CancellationToken cancellationToken = default) =>
        WorkflowId is null || ParentReader is null ? Task.FromResult<IReadOnlyList<EndedJob>>([]) : ParentReader(Job, cancellationToken);

    // No kind has a space in it.
    internal static string ResultKey(string kind) => $"{kind} result";

    private static void CheckDelay(TimeSpan delay)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(delay, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(delay, TimeSpan.FromDays(365 * 100));
    }

    private void Choose(JobOutcome outcome)
    {
        if (Completion.Requested)
            throw new InvalidOperationException(
                $"Job '{Kind}' ({JobId}) was told to complete with the handler's own transaction; it cannot also be {outcome.End}. Call one of them.");
        Chosen = outcome;
    }
}
