using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// The lease of this process: one row, one heartbeat, whatever the number of jobs. Two threads of its own and a connection of its own, all
// synchronous: user code that starves the thread pool must not cost the lease.
//   Heartbeat: registers, beats, registers anew when it was declared dead.
//   Watch:     no I/O. When no beat was confirmed in time it cancels all handlers *before* the lease ends, so that two attempts of a job
//              do not overlap; and it looks after timeouts.
internal sealed class WorkerLease : IDisposable
{
    private static readonly TimeSpan WatchInterval = TimeSpan.FromMilliseconds(100);

    // While nothing runs; a tenth of a percent of a core less.
    private static readonly TimeSpan IdleWatchInterval = TimeSpan.FromSeconds(1);

    private readonly JobQueue queue;
    private readonly NpgsqlDataSource connections;
    private readonly OutboxWorkerOptions options;
    private readonly WorkerRegistration template;
    private readonly RunningAttempts running;
    private readonly TimeProvider time;
    private readonly ILogger logger;
    private readonly string[] queues;
    private readonly bool indexed;
    private readonly AutoResetEvent beatNow = new(false);
    private readonly AutoResetEvent watchNow = new(false);
    private readonly ManualResetEvent ending = new(false);
    private readonly Thread heartbeat;
    private readonly Thread watch;
    private volatile WorkerRegistration? current;
    private volatile bool holds;
    private volatile bool stopping;
    private long confirmedAt;
    private DateTime? serverStartedAt;

    public WorkerLease(
        JobQueue queue, NpgsqlDataSource connections, OutboxWorkerOptions options, WorkerRegistration template, RunningAttempts running, bool indexed, TimeProvider time, ILogger logger)
    {
        this.queue = queue;
        this.connections = connections;
        this.options = options;
        this.template = template;
        this.running = running;
        this.indexed = indexed;
        this.time = time;
        this.logger = logger;
        queues = [.. options.Slots.SelectMany(each => each.Queues)];
        heartbeat = new Thread(Heartbeat) { IsBackground = true, Name = "outbox heartbeat", Priority = ThreadPriority.AboveNormal };
        watch = new Thread(Watch) { IsBackground = true, Name = "outbox watch", Priority = ThreadPriority.AboveNormal };
    }

    // Called on the heartbeat's thread: must not block.
    public event Action<Beat>? Beaten;

    public event Action? Lost;

    // The same server after a restart too. Called on the heartbeat's thread, before what the beat learned.
    public event Action? ServerChanged;

    // False: claim nothing, start nothing.
    public bool Holds => holds;

    // Of the current incarnation.
    public Guid WorkerId => current?.Id ?? Guid.Empty;

    public bool Covers(ClaimedJob job) => holds && job.WorkerId == WorkerId;

    // A sixth of the lease is kept back for handlers to hear their token.
    private TimeSpan Safe => options.Lease - (options.Lease / 6);

    public void Start()
    {
        heartbeat.Start();
        watch.Start();
    }

    public void BeatNow() => beatNow.Set();

    // Jobs were claimed: there are timeouts to look after.
    public void WatchNow() => watchNow.Set();

    public void IsStopping()
    {
        stopping = true;
        BeatNow();
    }

    // Ends both threads. The row is removed if nothing was left behind; else the lease runs out and others give the rest back.
    public void Stop(bool unregister)
    {
        ending.Set();
        if (heartbeat.ThreadState != ThreadState.Unstarted)
            heartbeat.Join();
        if (watch.ThreadState != ThreadState.Unstarted)
            watch.Join();
        holds = false;
        if (!unregister || current is not { } worker)
            return;
        for (var tries = 1; tries <= 2; tries++)
        {
            try
            {
                using var connection = connections.OpenConnection();
                queue.Unregister(connection, worker.Id);
                return;
            }
#pragma warning disable CA1031 // Whatever it is, the lease ends by itself. But a connection of the pool may have been cut without a word: once more.
            catch (Exception e)
#pragma warning restore CA1031
            {
                logger.BeatFailed(e, TimeSpan.Zero);
            }
        }
    }

    public void Dispose()
    {
        beatNow.Dispose();
        watchNow.Dispose();
        ending.Dispose();
    }

    private void Heartbeat()
    {
        NpgsqlConnection? connection = null;
        WaitHandle[] wake = [ending, beatNow];
        var wait = TimeSpan.Zero;
        while (WaitHandle.WaitAny(wake, wait) != 0)
        {
            try
            {
                connection ??= connections.OpenConnection();
                Beat(connection);
                wait = holds ? options.HeartbeatInterval : TimeSpan.Zero;
            }
#pragma warning disable CA1031 // Whatever it is: on a thread of its own it would end the application.
            catch (Exception e)
#pragma warning restore CA1031
            {
                connection?.Dispose();
                connection = null;
                connections.LeaveReadOnlyServer(e);
                var left = Safe - time.GetElapsedTime(Volatile.Read(ref confirmedAt));
                logger.BeatFailed(e, left > TimeSpan.Zero && holds ? left : TimeSpan.Zero);
                wait = options.HeartbeatInterval / 8;
            }
        }

        connection?.Dispose();
    }

    private void Beat(NpgsqlConnection connection)
    {
        var sentAt = time.GetTimestamp();
        var worker = current;
        if (worker is null)
        {
            // A new id for each incarnation: what the last one claimed can never be taken for this one's.
            worker = template with { Id = Guid.NewGuid() };
            queue.Register(connection, worker);
            current = worker;
            Confirm(sentAt);
        }

        var beat = queue.Beat(connection, worker.Id, running.Count, running.Stuck, stopping, queues, indexed);
        if (beat is null)
        {
            logger.DeclaredDead();
            current = null;
            Lose();
            return;
        }

        Confirm(sentAt);
        if (serverStartedAt is { } before && before != beat.ServerStartedAt)
            ServerChanged?.Invoke();
        serverStartedAt = beat.ServerStartedAt;
        Beaten?.Invoke(beat);
    }

    private void Confirm(long sentAt)
    {
        Volatile.Write(ref confirmedAt, sentAt);
        holds = true;
    }

    private void Watch()
    {
        WaitHandle[] wake = [ending, watchNow];
        var looksWithoutJobs = 0;
        while (true)
        {
            // Between two jobs of a busy slot there may be none to see: not idle before a second of that.
            var wait = looksWithoutJobs < 10 ? WatchInterval : IdleWatchInterval;
            if (holds && Safe - time.GetElapsedTime(Volatile.Read(ref confirmedAt)) is var left && left < wait)
                wait = left > TimeSpan.Zero ? left : TimeSpan.Zero;
            switch (WaitHandle.WaitAny(wake, wait))
            {
                case 0:
                    return;
                case 1:
                    looksWithoutJobs = 0;
                    break;
            }

            if (holds && time.GetElapsedTime(Volatile.Read(ref confirmedAt)) >= Safe)
                Lose();
            running.Watch(options.CancellationGrace);
            looksWithoutJobs = running.Count > 0 ? 0 : looksWithoutJobs + 1;
        }
    }

    private void Lose()
    {
        holds = false;
        logger.LeaseLost(running.Count);
        running.CancelAll(CancelReason.LeaseLost);
        Lost?.Invoke();
    }
}
