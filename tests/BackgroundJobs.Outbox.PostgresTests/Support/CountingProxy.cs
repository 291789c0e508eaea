using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// Can lose an answer, as a network does. Counts what a client sends that the server answers as one: Sync and simple Query messages. Without TLS, and without the DISCARD that a pool
// sends along, the number is exact, so two saves can be compared.
internal sealed class CountingProxy : IAsyncDisposable
{
    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly NpgsqlConnectionStringBuilder target;
    private readonly CancellationTokenSource stop = new();
    private int count;
    private volatile byte[]? losing;

    public CountingProxy(string connectionString)
    {
        target = new(connectionString);
        listener.Start();
        ConnectionString = new NpgsqlConnectionStringBuilder(connectionString)
        {
            Host = "127.0.0.1",
            Port = ((IPEndPoint)listener.LocalEndpoint).Port,
            SslMode = SslMode.Disable,
            GssEncryptionMode = GssEncryptionMode.Disable,
            NoResetOnClose = true,
            MaxPoolSize = 2,
        }.ConnectionString;
        _ = AcceptAsync();
    }

    public string ConnectionString { get; }

    public int Take() => Interlocked.Exchange(ref count, 0);

    // The next answer that says this is not passed on; its connection is cut instead.
    public void LoseAnswer(string text) => losing = Encoding.UTF8.GetBytes(text);

    public bool HasLost => losing is null;

    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        listener.Dispose();
        stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (!stop.IsCancellationRequested)
        {
            var client = await listener.AcceptTcpClientAsync(stop.Token);
            _ = ServeAsync(client.Client);
        }
    }

    private async Task ServeAsync(Socket client)
    {
        EndPoint end = target.Host!.StartsWith('/')
            ? new UnixDomainSocketEndPoint($"{target.Host}/.s.PGSQL.{target.Port}")
            : new DnsEndPoint(target.Host, target.Port);
        using var server = new Socket(SocketType.Stream, end is UnixDomainSocketEndPoint ? ProtocolType.Unspecified : ProtocolType.Tcp);
        using var unix = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        var socket = end is UnixDomainSocketEndPoint ? unix : server;
        await socket.ConnectAsync(end, stop.Token);
        await using var above = new NetworkStream(client, ownsSocket: true);
        await using var below = new NetworkStream(socket);
        var answers = AnswerAsync(below, above);
        try
        {
            await ForwardAsync(above, below);
        }
        catch (Exception e) when (e is EndOfStreamException or IOException or ObjectDisposedException)
        {
            socket.Shutdown(SocketShutdown.Send);
        }

        await answers;
    }

    private async Task AnswerAsync(NetworkStream from, NetworkStream to)
    {
        var buffer = new byte[64 * 1024];
        while (await from.ReadAsync(buffer, stop.Token) is > 0 and var read)
        {
            var part = buffer.AsMemory(0, read);
            if (losing is { } text && part.Span.IndexOf(text) >= 0)
            {
                losing = null;
                to.Socket.Close();
                return;
            }

            await to.WriteAsync(part, stop.Token);
        }
    }

    private async Task ForwardAsync(NetworkStream from, NetworkStream to)
    {
        // The first message, of the start of a session, has no type.
        var head = new byte[5];
        for (var at = 1; ; at = 0)
        {
            await from.ReadExactlyAsync(head.AsMemory(at), stop.Token);
            var body = new byte[BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(1)) - 4];
            await from.ReadExactlyAsync(body, stop.Token);
            if (at == 0 && head[0] is (byte)'S' or (byte)'Q')
                Interlocked.Increment(ref count);
            await to.WriteAsync(head.AsMemory(at), stop.Token);
            await to.WriteAsync(body, stop.Token);
        }
    }
}
