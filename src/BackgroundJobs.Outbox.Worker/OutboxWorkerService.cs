using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Puts the parts together, starts them, and stops them in the only order that loses nothing:
//   1. claim no more; handlers at a safe exit point end there;
//   2. give back what was claimed and not started;
//   3. let running handlers end, until the soft limit;
//   4. cancel them, and give back what they were doing;
//   5. record every outcome;
//   6. take the worker's row away: nothing names it any more.
// A second signal, or the host's own limit, goes straight to 4.
internal sealed class OutboxWorkerService(
    OutboxWorkerOptions options,
    OutboxOptions outbox,
    IServiceScopeFactory scopes,
    NpgsqlDataSource? registered,
    ILoggerFactory loggers) : IHostedService, IDisposable
{
    private static readonly TimeSpan LastGrace = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan RecordLimit = TimeSpan.FromSeconds(5);

    private readonly ILogger logger = loggers.CreateLogger("BackgroundJobs.Outbox.Worker");
    private readonly CancellationTokenSource stopping = new();
    private readonly CancellationTokenSource hard = new();
    private readonly List<IDisposable> parts = [];
    private WorkerParts? started;
    private Task? starting;
    private IReadOnlyList<ScheduledJob> schedules = [];
    private string name = "";

    public async Task StartAsync(CancellationToken cancellationToken)
    {
        options.Check();
        var kinds = outbox.Registry?.Kinds ?? [];
        if (kinds.Count == 0)
            throw new OutboxException("The worker cannot start: this application has no handlers, so it could run nothing. Call Handle for each kind in AddOutbox.");
        schedules = [.. options.Declared(outbox)];
        name = options.Name ?? $"{Environment.MachineName}:{Environment.ProcessId}";
        var connections = Connections(options.ConnectionString);
        var queue = new JobQueue(connections, outbox);
        try
        {
            await BuildAsync(queue, connections, [.. kinds], cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (IsNotUpYet(e))
        {
            // A database that is not up yet is no reason to fail a deployment; one without our schema is.
            logger.ClaimFailed(e, options.PollInterval);
            starting = RetryStartAsync(queue, connections, [.. kinds]);
        }

        Watch(PosixSignal.SIGINT);
        Watch(PosixSignal.SIGTERM);
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        await stopping.CancelAsync().ConfigureAwait(false);
        if (starting is not null)
            await starting.ConfigureAwait(false);
        if (started is not { } worker)
            return;

        using var hostLimit = cancellationToken.Register(() => StopHard("the host's own limit is reached"));
        logger.Stopping(name, worker.Running.Count, options.ShutdownTimeout);
        worker.Lease.IsStopping();
        await worker.LoopTask.ConfigureAwait(false);
        var released = worker.ReleaseWaiting();

        var handlers = Task.WhenAll(worker.Slots.Select(each => each.CloseAsync()));
        await WaitAsync(handlers, options.ShutdownTimeout, hard.Token).ConfigureAwait(false);
        if (!handlers.IsCompleted)
        {
            worker.Running.CancelAll(CancelReason.Stop);
            await WaitAsync(handlers, LastGrace, CancellationToken.None).ConfigureAwait(false);
        }

        worker.Running.Watch(TimeSpan.Zero);
        var stuck = worker.Running.Count;
        released += stuck;

        worker.Outcomes.Complete();
        using var recordLimit = new CancellationTokenSource(RecordLimit, outbox.TimeProvider);
        await worker.RecordAsync(recordLimit.Token).ConfigureAwait(false);
        worker.Lease.Stop(unregister: worker.IsClean);
        await worker.OthersAsync().ConfigureAwait(false);
        logger.Stopped(name, released, stuck);
    }

    public void Dispose()
    {
        started?.Lease.Stop(unregister: false);
        foreach (var part in Enumerable.Reverse(parts))
            part.Dispose();
        stopping.Dispose();
        hard.Dispose();
    }

    private async Task BuildAsync(JobQueue queue, NpgsqlDataSource connections, string[] kinds, CancellationToken cancellationToken)
    {
        await new Migrator(connections, outbox).CheckAsync(cancellationToken).ConfigureAwait(false);
        foreach (var declared in schedules)
        {
            if (await queue.DeclareScheduleAsync(declared, cancellationToken).ConfigureAwait(false))
                logger.ScheduleDeclared(declared.Schedule.Name);
        }

        foreach (var (queueName, limits) in options.DeclaredLimits)
        {
            if (await queue.DeclareLimitsAsync(queueName, limits, cancellationToken).ConfigureAwait(false))
                logger.LimitsDeclared(queueName);
        }

        var pooler = await queue.IsPoolerAsync(cancellationToken).ConfigureAwait(false);
        var direct = !options.Listen ? null
            : options.DirectConnectionString is { } other ? Connections(other)
            : pooler ? null : connections;
        var registration = new WorkerRegistration(
            Guid.Empty,
            name,
            Environment.MachineName,
            Environment.ProcessId,
            typeof(OutboxWorkerService).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown",
            options.Lease,
            new JsonObject(options.Slots.SelectMany(each => each.Queues.Select((queue, at) => KeyValuePair.Create<string, JsonNode?>(queue, each.Describe(at))))).ToJsonString(),
            kinds);

        // Behind a pooler a session is not ours, and an application's data source is for everything.
        var indexed = !pooler && options.ConnectionString is not null;
        var claims = indexed ? Connections(options.ConnectionString, queue) : connections;
        started = WorkerParts.Start(
            queue, connections, claims, HeartbeatConnections(indexed ? queue : null), indexed, direct, registration, options, outbox, scopes,
            prepare: !pooler, logger, parts, stopping.Token);
        logger.Started(
            name,
            string.Join(", ", options.Slots),
            kinds.Length,
            options.Lease,
            direct is null ? "polling" : "listening");
    }

    private async Task RetryStartAsync(JobQueue queue, NpgsqlDataSource connections, string[] kinds)
    {
        while (!stopping.IsCancellationRequested)
        {
            await Task.Delay(options.PollInterval, outbox.TimeProvider, stopping.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            try
            {
                await BuildAsync(queue, connections, kinds, stopping.Token).ConfigureAwait(false);
                return;
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // Whatever it is: the host has started, and a worker that gave up now would be a zombie.
            catch (Exception e)
#pragma warning restore CA1031
            {
                logger.ClaimFailed(e, options.PollInterval);
            }
        }
    }

    // Class 08 whole: with 08P01 PgBouncer passes on whatever keeps it from the server, were it only that all connections are taken.
    private static bool IsNotUpYet(Exception e) =>
        e is NpgsqlException { IsTransient: true } or PostgresException { SqlState: ['0', '8', ..] } or TimeoutException or System.Net.Sockets.SocketException;

    // The application's own data source is used as it is; from a connection string we make ours, with what a worker needs.
    private NpgsqlDataSource Connections(string? connectionString, JobQueue? indexed = null)
    {
        if (connectionString is null)
            return registered ?? throw new OutboxException(
                "The worker cannot start: it knows no database. Set ConnectionString in AddOutboxWorker, or register an NpgsqlDataSource.");
        return Own(Living(connectionString), indexed);
    }

    // A session that nobody talks to any more must be found out, a listener's most of all; as soon as the connection string says, if it does.
    private static NpgsqlConnectionStringBuilder Living(string connectionString)
    {
        NpgsqlConnectionStringBuilder settings = new(connectionString) { ConnectionIdleLifetime = 30 };
        if (settings.KeepAlive == 0)
            settings.KeepAlive = 30;
        return settings;
    }

    // Short time limits: a heartbeat that hangs must fail while there is time for another one, and while handlers can still be cancelled.
    private NpgsqlDataSource HeartbeatConnections(JobQueue? indexed)
    {
        if (options.ConnectionString is null)
            return registered!;
        var seconds = (int)Math.Max(1, options.Lease.TotalSeconds / 4);
        return Own(new NpgsqlConnectionStringBuilder(options.ConnectionString) { Timeout = seconds, CommandTimeout = seconds, CancellationTimeout = -1, MaxPoolSize = 2 }, indexed);
    }

    // Indexed: of this queue, for its claims or its heartbeats alone.
    private NpgsqlDataSource Own(NpgsqlConnectionStringBuilder settings, JobQueue? indexed = null)
    {
        // Never part of a caller's ambient transaction; and session state is only set for good, so there is none to reset.
        settings.Enlist = false;
        settings.NoResetOnClose = true;
        settings.ApplicationName ??= $"outbox worker {name}";
        NpgsqlDataSourceBuilder builder = new(settings.ConnectionString);
        if (indexed is not null)
            builder.UsePhysicalConnectionInitializer(indexed.OpenIndexed, indexed.OpenIndexedAsync);
        var source = builder.Build();
        parts.Add(source);
        return source;
    }

    private void Watch(PosixSignal signal) => parts.Add(PosixSignalRegistration.Create(signal, context =>
    {
        if (!stopping.IsCancellationRequested)
            return;
        context.Cancel = true;
        StopHard($"a second {context.Signal}");
    }));

    private void StopHard(string reason)
    {
        if (hard.IsCancellationRequested)
            return;
        logger.StopsHard(name, reason);
        hard.Cancel();
    }

    private async Task WaitAsync(Task task, TimeSpan atMost, CancellationToken cancellationToken)
    {
        try
        {
            await task.WaitAsync(atMost, outbox.TimeProvider, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            // The caller looks whether it has ended.
        }
    }
}
