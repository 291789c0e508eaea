using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// The running parts of one worker, wired: who hears whom.
internal sealed class WorkerParts : IDisposable
{
    private readonly CancellationTokenSource recordEnd = new();
    private readonly WorkerLoop loop;
    private Task record = Task.CompletedTask;
    private Task others = Task.CompletedTask;

    private WorkerParts(WorkerLease lease, OutcomeWriter outcomes, RunningAttempts running, IReadOnlyList<WorkerSlots> slots, WorkerLoop loop)
    {
        this.loop = loop;
        Lease = lease;
        Outcomes = outcomes;
        Running = running;
        Slots = slots;
    }

    public WorkerLease Lease { get; }

    public OutcomeWriter Outcomes { get; }

    public RunningAttempts Running { get; }

    public IReadOnlyList<WorkerSlots> Slots { get; }

    public Task LoopTask { get; private set; } = Task.CompletedTask;

    // Nothing in the database names this worker any more.
    public bool IsClean => Outcomes.Pending == 0 && !loop.MayHoldUnknown;

    public static WorkerParts Start(
        JobQueue queue,
        NpgsqlDataSource connections,
        NpgsqlDataSource claims,
        NpgsqlDataSource heartbeats,
        bool indexed,
        NpgsqlDataSource? direct,
        WorkerRegistration registration,
        OutboxWorkerOptions options,
        OutboxOptions outbox,
        IServiceScopeFactory scopes,
        bool prepare,
        ILogger logger,
        List<IDisposable> disposables,
        CancellationToken stopping)
    {
        var time = outbox.TimeProvider;
        var running = new RunningAttempts(options, time, logger);
        var held = new HeldJobs();
        var outcomes = new OutcomeWriter(new OutcomeRecorder(queue, prepare, logger), held, connections, time, logger);
        var lease = new WorkerLease(queue, heartbeats, options, registration, running, indexed, time, logger);
        var runner = new JobRunner(outbox, scopes, lease, outcomes, queue.SaveStepAsync, queue.ParentsAsync, time, logger, stopping);
        List<WorkerSlots> slots = [.. options.Slots.Select(each => new WorkerSlots(each, options.PollInterval, time))];
        var loop = new WorkerLoop(queue, claims, lease, outcomes, held, slots, registration.Kinds, options, prepare, indexed, time, logger);
        var maintenance = new MaintenanceLoop(queue, connections, running, options, time, logger);
        var schedules = new ScheduleLoop(queue, connections, options, time, logger);
        var parts = new WorkerParts(lease, outcomes, running, slots, loop);
        disposables.AddRange([parts, outcomes, lease, loop, maintenance, schedules]);

        running.GivenUp += runner.GiveUp;
        outcomes.Flushed += loop.Wake;
        outcomes.Unsettled += maintenance.Settle;
        outcomes.Freed += loop.Freed;
        maintenance.Freed += loop.Freed;
        lease.Beaten += beat =>
        {
            running.Cancel(beat.Cancelled);
            loop.Heard(beat);
            maintenance.Heard(beat);
            schedules.Heard(beat);
        };
        lease.Lost += () => parts.ReleaseWaiting();
        lease.ServerChanged += loop.ServerChanged;

        Action<JobHint> onHint = hint =>
        {
            if (hint.IsUnsettled)
                maintenance.Settle();
            else
                loop.Hint(hint);
        };
        using (var connection = connections.CreateConnection())
        {
            var signal = JobSignal.For(connection, outbox.Schema);
            signal.Raised += onHint;
            disposables.Add(new Unsubscriber(() => signal.Raised -= onHint));
        }

        foreach (var each in slots)
        {
            each.Start(
                () =>
                {
                    var slot = running.AddSlot();
                    return job => runner.RunAsync(job, slot);
                },
                loop.Wake);
        }

        parts.record = Task.Run(() => outcomes.RunAsync(parts.recordEnd.Token), CancellationToken.None);
        parts.others = Task.WhenAll(
            Task.Run(() => maintenance.RunAsync(stopping), CancellationToken.None),
            Task.Run(() => schedules.RunAsync(stopping), CancellationToken.None));
        if (direct is not null)
            parts.others = Task.WhenAll(parts.others, Listen(direct, queue, onHint, loop, lease, time, logger, stopping));
        lease.Start();
        parts.LoopTask = Task.Run(() => loop.RunAsync(stopping), CancellationToken.None);
        return parts;
    }

    // Jobs that were claimed and not started go back at once.
    public int ReleaseWaiting()
    {
        var released = 0;
        foreach (var job in Slots.SelectMany(each => each.TakeWaiting()))
        {
            Outcomes.Release(job);
            released++;
        }

        return released;
    }

    public async Task RecordAsync(CancellationToken limit)
    {
        using var onLimit = limit.Register(recordEnd.Cancel);
        await record.ConfigureAwait(false);
    }

    public Task OthersAsync() => others;

    public void Dispose() => recordEnd.Dispose();

    private static Task Listen(
        NpgsqlDataSource direct, JobQueue queue, Action<JobHint> onHint, WorkerLoop loop, WorkerLease lease, TimeProvider time, ILogger logger, CancellationToken stopping)
    {
        var notifications = new JobNotifications(direct, queue, time, logger);
        notifications.Hinted += onHint;
        notifications.CancelRequested += lease.BeatNow;
        notifications.Connected += loop.PollNow;
        lease.ServerChanged += notifications.Reconnect;
        return Task.Run(() => notifications.RunAsync(stopping), CancellationToken.None);
    }

    private sealed class Unsubscriber(Action unsubscribe) : IDisposable
    {
        public void Dispose() => unsubscribe();
    }
}
