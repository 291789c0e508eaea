using System.Diagnostics;
using System.Net;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.History;
using BackgroundJobs.Outbox.Chaos.Server;

namespace BackgroundJobs.Outbox.Chaos.Faults;

// Everything that can be hurt.
internal sealed class Arena : IAsyncDisposable
{
    private const int DirectWorkerCount = 3;
    private const int WriterCount = 2;

    private readonly Lock gate = new();
    private readonly List<(long At, int ProcessId)> deaths = [];
    private readonly List<long> recoveries = [];

    private Arena(ChaosOptions options, ChaosServer server, Pooler? pooler, SmallDisk? disk)
    {
        Options = options;
        Server = server;
        Pooler = pooler;
        Disk = disk;
    }

    public ChaosOptions Options { get; }

    public ChaosServer Server { get; }

    public Pooler? Pooler { get; }

    public SmallDisk? Disk { get; }

    // Set before anything happens.
    public HistoryReader History { get; set; } = null!;

    public List<ActorSlot> Workers { get; } = [];

    public List<ActorSlot> Writers { get; } = [];

    public ActorSlot? PooledWorker { get; private set; }

    // The one whose clock can be shifted, by this file.
    public ActorSlot ShiftedWorker => Workers[0];

    public string ClockFile => Path.Combine(Options.Folder, "clock");

    public IEnumerable<ActorSlot> Everyone => Workers.Concat(Writers);

    public static async Task<Arena> StartAsync(ChaosOptions options, CancellationToken cancellationToken)
    {
        var server = await ChaosServer.StartAsync(maxConnections: 90, cancellationToken);
        var pooler = Pooler.Program is null ? null : await Pooler.StartAsync(server.ConnectionString(server.EndPoint.Port), poolSize: 12);
        var arena = new Arena(options, server, pooler, await SmallDisk.TryMountAsync(server, cancellationToken));
        try
        {
            await File.WriteAllTextAsync(arena.ClockFile, "+0", cancellationToken);
            return arena;
        }
        catch
        {
            await arena.DisposeAsync();
            throw;
        }
    }

    // After the history is being read: nothing may happen before.
    public void StartActors()
    {
        for (var number = 0; number < DirectWorkerCount; number++)
            Workers.Add(Actor("worker", $"worker{number}", new FaultProxy(Server.EndPoint), number == 0 && ShiftedClock.Library is not null ? start => ShiftedClock.Use(start, ClockFile) : null));
        if (Pooler is not null)
            Workers.Add(PooledWorker = Actor("worker", "pooled", new FaultProxy(new IPEndPoint(Server.EndPoint.Address, Pooler.Port))));
        for (var number = 0; number < WriterCount; number++)
            Writers.Add(Actor("writer", $"writer{number}", new FaultProxy(Server.EndPoint)));
    }

    // A process that the run itself killed or froze, for how long its jobs then lay about.
    public void Died(int processId)
    {
        lock (gate)
            deaths.Add((Stopwatch.GetTimestamp(), processId));
    }

    // From here on the server answers again.
    public void WasUpAgain()
    {
        lock (gate)
            recoveries.Add(Stopwatch.GetTimestamp());
    }

    public IReadOnlyList<(long At, int ProcessId)> Deaths
    {
        get
        {
            lock (gate)
                return [.. deaths];
        }
    }

    public IReadOnlyList<long> Recoveries
    {
        get
        {
            lock (gate)
                return [.. recoveries];
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var actor in Everyone)
            await actor.DisposeAsync();
        if (Pooler is not null)
            await Pooler.DisposeAsync();
        await Server.DisposeAsync();
        if (Disk is not null)
            await Disk.DisposeAsync();
    }

    private ActorSlot Actor(string role, string name, FaultProxy proxy, Action<ProcessStartInfo>? prepare = null)
    {
        var seed = HashCode(name);
        return new(
            role,
            name,
            proxy,
            incarnation => new ActorSettings(
                name, Server.ConnectionString(proxy.Port) + ";No Reset On Close=true", Path.Combine(Options.Folder, name + ".log"), unchecked((seed * 1_000_003) + (incarnation * 7919)), Options.Lease),
            prepare);
    }

    // Not string.GetHashCode, which is another one in each process.
    private int HashCode(string name) => name.Aggregate(Options.Seed, (hash, letter) => unchecked((hash * 31) + letter));
}
