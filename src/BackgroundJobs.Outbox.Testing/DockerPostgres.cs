using System.IO.Pipes;
using System.Net.Sockets;
using Npgsql;
using Testcontainers.PostgreSql;

namespace BackgroundJobs.Outbox.Testing;

// A container. Testcontainers' own companion container removes it when the owner dies.
internal static class DockerPostgres
{
    private const string Image = "postgres:18-alpine";
    private const string Socket = "/var/run/docker.sock";
    private static readonly TimeSpan pipeTimeout = TimeSpan.FromMilliseconds(500);

    public static async Task<RunningPostgres> StartAsync(PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken)
    {
        // The client's presence proves nothing, and Testcontainers takes long to find out: ask the engine first.
        if (string.IsNullOrEmpty(places.DockerHost) && !await EngineAnswersAsync(cancellationToken).ConfigureAwait(false))
            throw new PostgresServerException($"DOCKER_HOST is not set, and nothing answers at {(OperatingSystem.IsWindows() ? "the pipe docker_engine" : Socket)}");
        using var timeout = new CancellationTokenSource(options.StartTimeout, TimeProvider.System);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellationToken);
        PostgreSqlContainer? container = null;
        try
        {
            container = new PostgreSqlBuilder(Image)
                .WithCommand([.. PostgresSettings.Of(options).SelectMany(setting => new[] { "-c", $"{setting.Key}={setting.Value}" })])
                .Build();
            await container.StartAsync(either.Token).ConfigureAwait(false);
            var connection = new NpgsqlConnectionStringBuilder(container.GetConnectionString()) { Database = "postgres" };
            return new RunningPostgres(PostgresWay.Docker, $"in a container of {Image}", connection.ConnectionString, container);
        }
        catch (Exception e)
        {
            if (container is not null)
                await container.DisposeAsync().ConfigureAwait(false);
            if (cancellationToken.IsCancellationRequested)
                throw;
            throw new PostgresServerException($"the container did not start: {e.Message}", e);
        }
    }

    private static async Task<bool> EngineAnswersAsync(CancellationToken cancellationToken)
    {
        try
        {
            if (OperatingSystem.IsWindows())
            {
                await using var pipe = new NamedPipeClientStream("docker_engine");
                await pipe.ConnectAsync(pipeTimeout, cancellationToken).ConfigureAwait(false);
                return true;
            }

            using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(Socket), cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (Exception e) when (e is SocketException or TimeoutException or IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
