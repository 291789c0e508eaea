using System.Net.Sockets;
using Testcontainers.PostgreSql;

namespace BackgroundJobs.Outbox.Testing;

// A container, where Docker answers.
internal static class DockerPostgres
{
    private const string Image = "postgres:17-alpine";

    public static async Task<PostgresServer> StartAsync(PostgresServerOptions options, CancellationToken cancellationToken)
    {
        // Without Docker the library needs a second to find out, and says it less clearly.
        if (!IsThere())
            throw new PostgresServerException("Docker does not answer (no DOCKER_HOST, and nobody listens on its socket).");
        try
        {
            var settings = options.Settings.SelectMany(each => new[] { "-c", $"{each.Key}={each.Value}" });
            string[] durability = options.Durable ? [] : ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"];
            var container = new PostgreSqlBuilder(Image)
                .WithCommand(["-c", $"max_connections={options.MaxConnections}", .. durability, .. settings])
                .Build();
            await container.StartAsync(cancellationToken).ConfigureAwait(false);
            return new PostgresServer(container.GetConnectionString(), $"container {Image}", container);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new PostgresServerException($"Docker could not start {Image}: {e.Message}", e);
        }
    }

    private static bool IsThere()
    {
        if (!string.IsNullOrEmpty(Environment.GetEnvironmentVariable("DOCKER_HOST")))
            return true;
        if (OperatingSystem.IsWindows())
            return File.Exists(@"\\.\pipe\docker_engine");
        try
        {
            using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            socket.Connect(new UnixDomainSocketEndPoint("/var/run/docker.sock"));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
