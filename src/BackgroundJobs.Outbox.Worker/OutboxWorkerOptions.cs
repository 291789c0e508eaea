using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

/// <summary>How a worker process runs jobs. Checked when the host starts; every fault is named at once.</summary>
public sealed class OutboxWorkerOptions
{
    private readonly Dictionary<string, int> queues = new(StringComparer.Ordinal);
    private readonly List<DeclaredSlots> shared = [];
    private readonly Dictionary<string, QueueLimits> limits = new(StringComparer.Ordinal);
    private readonly List<(string Name, Func<OutboxOptions, ScheduledJob> Create)> schedules = [];

    /// <summary>
    /// Where the jobs are. The worker opens its own connections from it: one for heartbeats, one for LISTEN, one for claims, and a few for
    /// the rest. Default: the <see cref="NpgsqlDataSource"/> that is registered in the services.
    /// </summary>
    public string? ConnectionString { get; set; }

    /// <summary>
    /// A connection string that reaches PostgreSQL directly, for LISTEN, where <see cref="ConnectionString"/> goes through a pooler in
    /// transaction mode. Default: none; a pooler is recognised, and jobs of other processes are then found by polling only.
    /// </summary>
    public string? DirectConnectionString { get; set; }

    /// <summary>Whether to LISTEN for jobs that other processes enqueue. Default: true; without it they are found by polling.</summary>
    public bool Listen { get; set; } = true;

    /// <summary>
    /// The queues that have slots of their own in this worker, and how many. Default: queue <c>default</c> with 10, where it has none at all.
    /// </summary>
    public IReadOnlyDictionary<string, int> Queues => queues;

    /// <summary>
    /// How long a queue may lie still before it is looked at without a hint. Default: 2.5 s, shortened or lengthened by a fifth at random:
    /// hints can be lost, and this bounds what that costs.
    /// </summary>
    public TimeSpan PollInterval { get; set; } = TimeSpan.FromSeconds(2.5);

    /// <summary>How often the worker says that it is alive. Default: 2 s, a third of <see cref="Lease"/>: two beats may be lost.</summary>
    public TimeSpan HeartbeatInterval { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>
    /// How long after its last heartbeat a worker counts as dead, by the database's clock. Default: 6 s; with the heartbeats of the others,
    /// who notice it, the jobs of a killed worker run again within 10 s. Raise both for machines that freeze for longer.
    /// </summary>
    public TimeSpan Lease { get; set; } = TimeSpan.FromSeconds(6);

    /// <summary>
    /// How long a stop waits for running handlers before it cancels them. Default: 25 s, inside the 30 s that the .NET host and Kubernetes
    /// give. Zero: cancel at once.
    /// </summary>
    public TimeSpan ShutdownTimeout { get; set; } = TimeSpan.FromSeconds(25);

    /// <summary>
    /// How long a cancelled handler may take to end before its attempt is given up and its slot counts as stuck. Default: 10 s. At the end of
    /// a stop: 2 s.
    /// </summary>
    public TimeSpan CancellationGrace { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// How many worker deaths a job survives before it is set aside as dead: 3 or more. Default: 5. After two it runs with no other such job in its process,
    /// so that no other job is charged for it.
    /// </summary>
    public int MaxCrashes { get; set; } = 5;

    /// <summary>How long finished jobs are remembered: a day or more. Default: 14 days. Whole days are dropped, in UTC.</summary>
    public TimeSpan HistoryRetention { get; set; } = TimeSpan.FromDays(14);

    /// <summary>The name under which people see this worker. Default: the machine's name and the process id.</summary>
    public string? Name { get; set; }

    /// <summary>Adds a queue.</summary>
    /// <param name="name">1 to 63 characters of a-z, 0-9 and _ . : -, first one a letter or a digit.</param>
    /// <param name="concurrency">How many of its jobs run at a time in this process: 1 to 10,000.</param>
    /// <param name="limits">
    /// Limits on all workers together. Stored when the worker starts, if they are new or were declared otherwise the last time: what
    /// <see cref="JobAdmin"/> changes in between stays. Default: those that are stored, at first none.
    /// </param>
    /// <returns>These options, for the next queue.</returns>
    public OutboxWorkerOptions Queue(string name, int concurrency = 10, QueueLimits? limits = null)
    {
        queues[name] = concurrency;
        if (limits is not null)
            this.limits[name] = limits;
        return this;
    }

    /// <summary>
    /// Adds queues that share slots, in an order: a slot that is free takes a job of the first queue that has one that is due. Later queues get what
    /// earlier ones leave, which may be nothing; see <see cref="QueuesByWeight"/>. What runs is not interrupted.
    /// </summary>
    /// <param name="concurrency">How many of their jobs run at a time in this process, together: 1 to 10,000.</param>
    /// <param name="names">The queues, the most urgent one first; each in one place of a worker.</param>
    /// <returns>These options, for the next queue.</returns>
    public OutboxWorkerOptions QueuesInOrder(int concurrency, params ReadOnlySpan<string> names)
    {
        shared.Add(new(concurrency, names.ToArray()));
        return this;
    }

    /// <summary>
    /// Adds queues that share slots by weight: where several have jobs that are due, starts are in the proportion of their weights, and none waits for
    /// ever. What one does not need the others get, and it has no credit for it later.
    /// </summary>
    /// <param name="concurrency">How many of their jobs run at a time in this process, together: 1 to 10,000.</param>
    /// <param name="queues">The queues and their weights, 1 to 1,000; each queue in one place of a worker.</param>
    /// <returns>These options, for the next queue.</returns>
    public OutboxWorkerOptions QueuesByWeight(int concurrency, params ReadOnlySpan<(string Name, int Weight)> queues)
    {
        var each = queues.ToArray();
        shared.Add(new(concurrency, Array.ConvertAll(each, one => one.Name), Array.ConvertAll(each, one => one.Weight)));
        return this;
    }

    /// <summary>Declares limits of a queue of this worker on all workers together, as with <see cref="Queue"/>, for one that shares slots.</summary>
    /// <param name="name">The queue.</param>
    /// <param name="limits">The limits.</param>
    /// <returns>These options.</returns>
    public OutboxWorkerOptions Limits(string name, QueueLimits limits)
    {
        ArgumentNullException.ThrowIfNull(limits);
        this.limits[name] = limits;
        return this;
    }

    /// <summary>
    /// Declares a job that comes again and again. Stored when the worker starts, if it is new or was declared otherwise the last time: what
    /// <see cref="JobAdmin"/> changes in between stays. A schedule that is not declared any more goes on until it is deleted there.
    /// </summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="schedule">When.</param>
    /// <param name="job">The arguments of each of its jobs.</param>
    /// <param name="enqueue">Queue, priority, attempts, headers and group of its jobs. Default: those of the kind, whose delay does not count.</param>
    /// <returns>These options, for the next schedule.</returns>
    /// <exception cref="OutboxException">The schedule cannot be used as it is; the message says why.</exception>
    public OutboxWorkerOptions Schedule<TJob>(JobSchedule schedule, TJob job, EnqueueOptions? enqueue = null)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(schedule);
        schedule.Check();
        schedules.Add((schedule.Name, outbox => ScheduledJob.Create(schedule, job, enqueue, outbox)));
        return this;
    }

    internal IEnumerable<DeclaredSlots> Slots => queues.Select(each => new DeclaredSlots(each.Value, [each.Key])).Concat(shared);

    internal IReadOnlyDictionary<string, QueueLimits> DeclaredLimits => limits;

    internal IEnumerable<ScheduledJob> Declared(OutboxOptions outbox) => schedules.Select(each => each.Create(outbox));

    internal void Check()
    {
        if (queues.Count + shared.Count == 0)
            Queue(JobDefaults.Queue);
        List<string> faults = [];
        foreach (var slots in Slots)
            slots.Check(faults);
        var names = Slots.SelectMany(each => each.Queues).CountBy(name => name ?? "").ToDictionary();
        foreach (var (name, count) in names)
        {
            if (!JobName.IsQueue(name))
                faults.Add($"queue '{name}' has no allowed name (1 to 63 characters of a-z, 0-9 and _ . : -)");
            if (count > 1)
                faults.Add($"queue '{name}' stands in {count} places (one)");
        }

        foreach (var (name, each) in limits)
        {
            each.Check(name);
            if (!names.ContainsKey(name))
                faults.Add($"limits are declared of queue '{name}', which is none of this worker's");
        }

        foreach (var twice in schedules.CountBy(each => each.Name).Where(each => each.Value > 1))
            faults.Add($"schedule '{twice.Key}' is declared {twice.Value} times (once)");
        if (PollInterval < TimeSpan.FromMilliseconds(50))
            faults.Add($"PollInterval is {PollInterval} (50 ms or more)");
        if (HeartbeatInterval < TimeSpan.FromMilliseconds(50))
            faults.Add($"HeartbeatInterval is {HeartbeatInterval} (50 ms or more)");
        if (Lease < HeartbeatInterval * 2.5)
            faults.Add($"Lease is {Lease} (2.5 heartbeats or more, or one late heartbeat would kill the worker)");
        if (ShutdownTimeout < TimeSpan.Zero)
            faults.Add($"ShutdownTimeout is {ShutdownTimeout} (zero or more)");
        if (CancellationGrace < TimeSpan.Zero)
            faults.Add($"CancellationGrace is {CancellationGrace} (zero or more)");
        if (MaxCrashes < 3)
            faults.Add($"MaxCrashes is {MaxCrashes} (3 or more: below it, neighbours of a crash would be set aside too)");
        if (HistoryRetention < TimeSpan.FromDays(1))
            faults.Add($"HistoryRetention is {HistoryRetention} (a day or more)");
        if (faults.Count > 0)
            throw new OutboxException($"The worker cannot start: {string.Join("; ", faults)}. Correct these in AddOutboxWorker.");
    }
}
