using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Server;

/// <summary>What a network does to one COMMIT, or to one statement outside of a transaction, and its answer.</summary>
internal enum CommitFault
{
    /// <summary>It never reaches the server.</summary>
    Drop,

    /// <summary>It is passed on, and both sides are cut at once.</summary>
    Reset,

    /// <summary>It is carried out; its answer is lost with the connection.</summary>
    LoseAnswer,

    /// <summary>It is carried out; its answer comes late.</summary>
    DelayAnswer,

    /// <summary>Half of it reaches the server.</summary>
    Half,
}

/// <summary>
/// Stands between one actor and PostgreSQL and reads along (the protocol's messages, without TLS). Its faults hit COMMITs, sent by Npgsql as a
/// simple query, and statements on their own, which end in Sync while the session is in no transaction.
/// </summary>
internal sealed class FaultProxy : IAsyncDisposable
{
    private static readonly TimeSpan Lateness = TimeSpan.FromSeconds(1.5);

    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource stop = new();
    private readonly Lock gate = new();
    private readonly HashSet<Link> links = [];
    private readonly Task accepting;
    private TaskCompletionSource? hole;
    private (CommitFault Fault, bool Statements, int Left)? armed;
    private int fired;
    private int roundTrips;
    private volatile byte[]? losing;

    public FaultProxy(EndPoint target)
    {
        Target = target;
        listener.Start();
        accepting = AcceptAsync();
    }

    /// <summary>Where new connections lead; those that are open stay where they are.</summary>
    public EndPoint Target { get; set; }

    public int Port => ((IPEndPoint)listener.LocalEndpoint).Port;

    /// <summary>How many commits or statements were hit so far.</summary>
    public int Fired => Volatile.Read(ref fired);

    public int Connections
    {
        get
        {
            lock (gate)
                return links.Count;
        }
    }

    /// <summary>Before the server of a connection string, of which <see cref="ConnectionString"/> then is the way through it.</summary>
    /// <param name="connectionString">With one host, a TCP port or a Unix socket.</param>
    /// <returns>The proxy.</returns>
    public static FaultProxy Before(string connectionString)
    {
        var target = new NpgsqlConnectionStringBuilder(connectionString);
        var proxy = new FaultProxy(target.Host!.StartsWith('/')
            ? new UnixDomainSocketEndPoint($"{target.Host}/.s.PGSQL.{target.Port}")
            : new DnsEndPoint(target.Host, target.Port));
        (target.Host, target.Port, target.SslMode, target.GssEncryptionMode) = ("127.0.0.1", proxy.Port, SslMode.Disable, GssEncryptionMode.Disable);

        // Without the DISCARD that a pool sends along, round trips can be counted.
        (target.NoResetOnClose, target.MaxPoolSize) = (true, 2);
        proxy.ConnectionString = target.ConnectionString;
        return proxy;
    }

    public string ConnectionString { get; private set; } = "";

    /// <summary>How many messages the server answers as one (Sync, simple Query) came since the last time this was asked.</summary>
    public int TakeRoundTrips() => Interlocked.Exchange(ref roundTrips, 0);

    /// <summary>The next message of the server that says this is not passed on; its connection is cut instead.</summary>
    public void LoseAnswer(string text) => losing = Encoding.UTF8.GetBytes(text);

    public bool HasLost => losing is null;

    /// <summary>Hits the next ones.</summary>
    /// <param name="fault">How.</param>
    /// <param name="statements">Statements outside of a transaction instead of COMMITs.</param>
    /// <param name="times">How many.</param>
    public void Arm(CommitFault fault, bool statements = false, int times = 1)
    {
        lock (gate)
            armed = (fault, statements, times);
    }

    public void Disarm()
    {
        lock (gate)
            armed = null;
    }

    /// <summary>Passes nothing on any more, in either direction, and tells nobody; new connections get no answer either.</summary>
    public void OpenHole() => hole ??= new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Cuts what fell into the hole, and lets new connections through.</summary>
    public void CloseHole()
    {
        var closing = Interlocked.Exchange(ref hole, null);
        CutAll();
        closing?.TrySetResult();
    }

    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        CloseHole();
        listener.Dispose();
        await accepting.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        stop.Dispose();
    }

    private void CutAll()
    {
        Link[] all;
        lock (gate)
            all = [.. links];
        foreach (var link in all)
            link.Cut();
    }

    private bool TakeFault(bool isCommit, out CommitFault fault)
    {
        lock (gate)
        {
            fault = armed?.Fault ?? default;
            if (armed is not { } next || next.Statements == isCommit)
                return false;
            armed = next.Left == 1 ? null : next with { Left = next.Left - 1 };
            fired++;
            return true;
        }
    }

    private async Task AcceptAsync()
    {
        while (!stop.IsCancellationRequested)
        {
            var client = await listener.AcceptSocketAsync(stop.Token);
            client.NoDelay = true;
            _ = ServeAsync(client);
        }
    }

    private async Task ServeAsync(Socket client)
    {
        using var server = Target is UnixDomainSocketEndPoint
            ? new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
            : new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        using var link = new Link(this, client, server);
        lock (gate)
            links.Add(link);
        try
        {
            if (hole is { } wait)
                await wait.Task;
            await server.ConnectAsync(Target, stop.Token);
            await Task.WhenAny(link.AskAsync(stop.Token), link.AnswerAsync(stop.Token));
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // The server is down, or the link was cut: the client sees its connection end.
        }
        finally
        {
            lock (gate)
                links.Remove(link);
        }
    }

    // One client's connection and its own to the server.
    private sealed class Link(FaultProxy proxy, Socket client, Socket server) : IDisposable
    {
        private const int HeadLength = 5;
        private static readonly byte[] Commit = "COMMIT\0"u8.ToArray();

        // As the server last said: idle, in a transaction, in a failed one.
        private volatile byte state = (byte)'I';
        private volatile Awaited awaited;

        private enum Awaited
        {
            Nothing,
            ToLose,
            ToDelay,
        }

        public void Cut()
        {
            client.Close(0);
            server.Close(0);
        }

        public void Dispose() => Cut();

        public async Task AskAsync(CancellationToken cancellationToken)
        {
            // The first message, of the start of a session, has no type.
            var buffer = new byte[HeadLength];
            for (var at = 1; ; at = 0)
            {
                if (!await FillAsync(client, buffer.AsMemory(at, HeadLength - at), cancellationToken))
                    return;
                var length = BinaryPrimitives.ReadInt32BigEndian(buffer.AsSpan(1)) - 4;
                var message = new byte[HeadLength - at + length];
                buffer.AsSpan(at).CopyTo(message);
                if (!await FillAsync(client, message.AsMemory(HeadLength - at), cancellationToken))
                    return;
                if (at == 0 && message[0] is (byte)'S' or (byte)'Q')
                    Interlocked.Increment(ref proxy.roundTrips);
                if (proxy.hole is { } hole)
                    await hole.Task;
                if (at == 0 && IsTarget(message, out var isCommit) && proxy.TakeFault(isCommit, out var fault))
                {
                    if (!await HitAsync(message, fault, cancellationToken))
                        return;
                }
                else
                {
                    await SendAsync(server, message, cancellationToken);
                }
            }
        }

        // Whole messages, so that an answer is lost or late as a whole.
        public async Task AnswerAsync(CancellationToken cancellationToken)
        {
            var head = new byte[HeadLength];
            while (await FillAsync(server, head, cancellationToken))
            {
                var message = new byte[HeadLength - 4 + BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(1))];
                head.CopyTo(message, 0);
                if (!await FillAsync(server, message.AsMemory(HeadLength), cancellationToken))
                    return;
                if (proxy.hole is { } hole)
                    await hole.Task;
                if (proxy.losing is { } text && message.AsSpan().IndexOf(text) >= 0)
                {
                    proxy.losing = null;
                    return;
                }

                if (message[0] == (byte)'C' && awaited != Awaited.Nothing)
                {
                    if (awaited == Awaited.ToLose)
                        return;
                    awaited = Awaited.Nothing;
                    await Task.Delay(Lateness, TimeProvider.System, cancellationToken);
                }

                if (message[0] == (byte)'Z')
                    state = message[HeadLength];
                await SendAsync(client, message, cancellationToken);
            }
        }

        private bool IsTarget(byte[] message, out bool isCommit)
        {
            isCommit = message[0] == (byte)'Q' && message.AsSpan(HeadLength).SequenceEqual(Commit);
            return isCommit || (message[0] == (byte)'S' && state == (byte)'I');
        }

        // False: nothing more is to come.
        private async Task<bool> HitAsync(byte[] message, CommitFault fault, CancellationToken cancellationToken)
        {
            switch (fault)
            {
                case CommitFault.Drop:
                    return false;
                case CommitFault.Half:
                    await SendAsync(server, message.AsMemory(0, message.Length / 2), cancellationToken);
                    return false;
                case CommitFault.Reset:
                    await SendAsync(server, message, cancellationToken);
                    return false;
                case CommitFault.LoseAnswer or CommitFault.DelayAnswer:
                    awaited = fault == CommitFault.LoseAnswer ? Awaited.ToLose : Awaited.ToDelay;
                    await SendAsync(server, message, cancellationToken);
                    return true;
                default:
                    throw new InvalidOperationException($"No such fault: {fault}.");
            }
        }

        private static async Task SendAsync(Socket to, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
        {
            while (bytes.Length > 0)
                bytes = bytes[await to.SendAsync(bytes, cancellationToken)..];
        }

        private static async Task<bool> FillAsync(Socket from, Memory<byte> bytes, CancellationToken cancellationToken)
        {
            while (bytes.Length > 0)
            {
                var read = await from.ReceiveAsync(bytes, cancellationToken);
                if (read == 0)
                    return false;
                bytes = bytes[read..];
            }

            return true;
        }
    }
}
