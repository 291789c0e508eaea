namespace BackgroundJobs.Outbox;

/// <summary>A job that was checked and serialised, ready to be inserted. Made by <see cref="Create{TJob}(TJob, EnqueueOptions, OutboxOptions)"/> only.</summary>
public sealed class NewJob
{
    private readonly WorkflowPlace? place;

    private NewJob(WorkflowPlace? place) => this.place = place;

    /// <summary>The job's id.</summary>
    public Guid Id { get; private init; }

    /// <summary>The job's kind.</summary>
    public string Kind { get; private init; } = "";

    /// <summary>The arguments, as a JSON object.</summary>
    public string Args { get; private init; } = "";

    /// <summary>The queue.</summary>
    public string Queue { get; private init; } = "";

    /// <summary>1 (first) to 4 (last).</summary>
    public short Priority { get; private init; }

    /// <summary>Not before this moment, UTC; null: see <see cref="Delay"/>.</summary>
    public DateTime? RunAt { get; private init; }

    /// <summary>Not before this long after the insert; null: at once or at <see cref="RunAt"/>.</summary>
    public TimeSpan? Delay { get; private init; }

    /// <summary>How often it may fail.</summary>
    public short MaxAttempts { get; private init; }

    /// <summary>The headers as a JSON object, or null.</summary>
    public string? Headers { get; private init; }

    /// <summary>The W3C trace context of the enqueuer, or null.</summary>
    public string? TraceParent { get; private init; }

    /// <summary>The workflow it belongs to, or null.</summary>
    public Guid? WorkflowId => place?.WorkflowId;

    /// <summary>The group, or null.</summary>
    public string? Group { get; private init; }

    internal string? DependsOn => place?.DependsOn;

    /// <summary>The key of its <see cref="UniqueJob"/>, or null.</summary>
    public string? UniqueKey { get; private init; }

    internal string? UniqueRule { get; private init; }

    // A blocked job's is negative (migrations/0004, 0005).
    internal short StoredPriority => place is not { DependsOn: not null, IsAlongside: false } && UniqueKey is null ? Priority : (short)-Priority;

    /// <summary>Checks and serialises a job.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="job">The arguments.</param>
    /// <param name="options">Wishes for this job. Default: those of the kind, then those of the library.</param>
    /// <param name="outbox">The limits and the JSON options. Default: <see cref="OutboxOptions"/> as it is made.</param>
    /// <returns>The job, ready to be inserted.</returns>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is; the message says why.</exception>
    public static NewJob Create<TJob>(TJob job, EnqueueOptions? options = null, OutboxOptions? outbox = null)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(job);
        var limits = outbox ?? OutboxOptions.Default;
        return Make(options, limits, job, isLate: false);
    }

    internal static NewJob Create<TJob>(TJob job, EnqueueOptions? options, OutboxOptions limits, WorkflowPlace place)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(job);
        return Make(options, limits, job, isLate: false, place: place);
    }

    // What a schedule enqueues: checked as a job is, with arguments that are encrypted for each of its jobs anew.
    internal static NewJob CreateTemplate<TJob>(TJob job, EnqueueOptions? options, OutboxOptions limits)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(job);
        return Make(options, limits, job, isLate: false, isTemplate: true);
    }

    // A job whose arguments are not known yet: everything else is checked now.
    internal static NewJob CreateLate<TJob>(EnqueueOptions? options, OutboxOptions limits, WorkflowPlace? place = null)
        where TJob : IJob => Make<TJob>(options, limits, default, isLate: true, place: place);

    internal static string ArgsOf<TJob>(TJob job, Guid id, OutboxOptions limits)
        where TJob : IJob
    {
        var args = JobJson.WriteArgs(job, TJob.Kind, limits);
        return limits.Encryption?.Encrypt(args, id, TJob.Kind) ?? args;
    }

    private static NewJob Make<TJob>(
        EnqueueOptions? options, OutboxOptions limits, TJob? job, bool isLate, bool isTemplate = false, WorkflowPlace? place = null)
        where TJob : IJob
    {
        var kind = TJob.Kind;
        JobName.CheckKind(kind);
        limits.Registry?.CheckKnown(kind);
        var wishes = (options ?? EnqueueOptions.None).Over(TJob.Defaults);
        EnqueueOptionsCheck.Check(kind, wishes);
        if (wishes.Unique is not null && place?.DependsOn is not null)
            throw new InvalidJobException(place.IsAlongside
                ? $"Job '{kind}' cannot be enqueued: it is unique by a key, and other jobs are to wait for it, which would go without it if another one of its key were there. Leave Unique null."
                : $"Job '{kind}' cannot be enqueued: it is unique by a key, and waits for other jobs. Leave Unique null, or enqueue it in the handler of its parent.");

        var id = wishes.Id ?? JobId.New(limits.TimeProvider);
        return new(place)
        {
            Id = id,
            Kind = kind,
            Args = isLate ? "" : isTemplate ? JobJson.WriteArgs(job!, kind, limits) : ArgsOf(job!, id, limits),
            Queue = wishes.Queue ?? JobDefaults.Queue,
            Priority = (short)(wishes.Priority ?? JobDefaults.Priority),
            RunAt = wishes.RunAt?.UtcDateTime,
            Delay = wishes.Delay,
            MaxAttempts = (short)(wishes.MaxAttempts ?? JobDefaults.MaxAttempts),
            Headers = JobJson.WriteHeaders(wishes.Headers, kind),
            TraceParent = OutboxTelemetry.CurrentTraceParent(),
            Group = wishes.Group,
            UniqueKey = wishes.Unique?.Key,
            UniqueRule = wishes.Unique?.ToJson(),
        };
    }
}
