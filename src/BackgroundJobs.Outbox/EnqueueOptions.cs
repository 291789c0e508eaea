namespace BackgroundJobs.Outbox;

/// <summary>
/// How one job is to be queued. What is null is taken from the kind's <see cref="IJob.Defaults"/>, then from the library's defaults.
/// Checked when the job is enqueued: <see cref="InvalidJobException"/> says what is wrong, before anything is written.
/// </summary>
public sealed record EnqueueOptions
{
    /// <summary>No wishes at all.</summary>
    public static EnqueueOptions None { get; } = new();

    /// <summary>
    /// Name of the queue: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit. Default: <c>default</c>.
    /// </summary>
    public string? Queue { get; init; }

    /// <summary>
    /// 1 (first) to 4 (last). Default: 2, which leaves one level above for what is urgent and two below for what is not.
    /// Strict: a job of priority 2 waits while its queue has a due job of priority 1.
    /// </summary>
    public int? Priority { get; init; }

    /// <summary>
    /// Not before this moment, by the database's clock. Stored in UTC with the database's microseconds. Default: at once.
    /// Excludes <see cref="Delay"/>.
    /// </summary>
    public DateTimeOffset? RunAt { get; init; }

    /// <summary>Not before this long after now; zero or more. Excludes <see cref="RunAt"/>.</summary>
    public TimeSpan? Delay { get; init; }

    /// <summary>
    /// How often the job may fail before it is dead: 1 to 1000. Default: 20, which with the default retry policy is six and a half to eight hours,
    /// long enough to outlive a night's incident. Crashes, snoozes and interruptions do not count.
    /// </summary>
    public int? MaxAttempts { get; init; }

    /// <summary>Small texts that travel with the job outside its arguments: tenant, correlation id. Up to 16 KiB as JSON.</summary>
    public IReadOnlyDictionary<string, string>? Headers { get; init; }

    /// <summary>
    /// The id of the job, for a caller that wants to repeat an enqueue safely: the second insert of an id fails. Default: a new UUIDv7.
    /// </summary>
    public Guid? Id { get; init; }

    /// <summary>
    /// That one job of its kind and key is enough, and what becomes of another one: <see cref="UniqueJob"/>. Default: each is run. Not for a job that
    /// waits for others of a workflow, nor for those of a schedule.
    /// </summary>
    public UniqueJob? Unique { get; init; }

    /// <summary>
    /// What the job is about, where that matters for who may run when: a tenant, a customer, an account; 1 to 200 characters. In a queue with
    /// limits (<c>QueueLimits</c>) groups take turns, and may have limits and an order of their own; in any other it says nothing. Default: none.
    /// </summary>
    public string? Group { get; init; }

    internal EnqueueOptions Over(EnqueueOptions defaults) => ReferenceEquals(defaults, None) ? this : new()
    {
        Queue = Queue ?? defaults.Queue,
        Priority = Priority ?? defaults.Priority,
        // A moment of the call replaces a delay of the kind, and the other way round.
        RunAt = RunAt ?? (Delay is null ? defaults.RunAt : null),
        Delay = Delay ?? (RunAt is null ? defaults.Delay : null),
        MaxAttempts = MaxAttempts ?? defaults.MaxAttempts,
        Headers = Headers ?? defaults.Headers,
        Group = Group ?? defaults.Group,
        Id = Id,
        Unique = Unique ?? defaults.Unique,
    };
}
