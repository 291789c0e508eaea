using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Npgsql;

namespace BackgroundJobs.Outbox.Testing;

// A throwaway cluster of the programs in one bin folder: made, started, and left to its watchdog.
internal sealed class PostgresCluster : IAsyncDisposable
{
    private const int PortTries = 5;

    // An owner that keeps only the connection string must not lose its server to the garbage collector, which would close the watchdog's pipe.
    private static readonly ConcurrentDictionary<PostgresCluster, bool> running = new();

    private readonly ClusterFolder folder;
    private readonly ServerUser user;
    private readonly string bin;
    private readonly string password = RandomNumberGenerator.GetHexString(32);

    private PostgresCluster(ClusterFolder folder, ServerUser user, string bin)
    {
        this.folder = folder;
        this.user = user;
        this.bin = bin;
    }

    public string Folder => folder.Folder;

    public string ConnectionString { get; private set; } = "";

    public static async Task<PostgresCluster> StartAsync(
        string bin, PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken)
    {
        await ClusterFolder.RemoveStaleAsync(places.LockFolder).ConfigureAwait(false);
        var user = await ServerUser.FindAsync(places, cancellationToken).ConfigureAwait(false);
        var folder = ClusterFolder.Create(places.LockFolder, user.Command(InstalledPostgres.Program(bin, "pg_ctl")));
        var cluster = new PostgresCluster(folder, user, bin);
        using var timeout = new CancellationTokenSource(options.StartTimeout, TimeProvider.System);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellationToken);
        try
        {
            await cluster.MakeAsync(options, either.Token).ConfigureAwait(false);
            await cluster.StartAsync(options, either.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await folder.DisposeAsync().ConfigureAwait(false);
            if (e is OperationCanceledException && !cancellationToken.IsCancellationRequested)
                throw new PostgresServerException($"PostgreSQL in {bin} was not up within {options.StartTimeout.TotalSeconds:0.#} s (PostgresServerOptions.StartTimeout).", e);
            throw;
        }

        running[cluster] = true;
        return cluster;
    }

    public ValueTask DisposeAsync()
    {
        running.TryRemove(this, out _);
        return folder.DisposeAsync();
    }

    // With a password, also on this machine alone: 127.0.0.1 is open to everybody who has an account here.
    private async Task MakeAsync(PostgresServerOptions options, CancellationToken cancellationToken)
    {
        var passwordFile = Path.Combine(Folder, "password");
        await File.WriteAllTextAsync(passwordFile, password, cancellationToken).ConfigureAwait(false);
        await user.GiveAsync(Folder, cancellationToken).ConfigureAwait(false);
        var initdb = await ProgramRun.ToEndAsync(
            user.Command(
                InstalledPostgres.Program(bin, "initdb"), "-D", folder.Data, "-U", "postgres", "--auth=scram-sha-256", $"--pwfile={passwordFile}",
                "--encoding=UTF8", $"--locale={(OperatingSystem.IsLinux() ? "C.UTF-8" : "C")}", "--no-sync"),
            cancellationToken).ConfigureAwait(false);
        if (initdb.ExitCode != 0)
            throw new PostgresServerException($"initdb in {bin} failed: {initdb.Output}");

        File.Delete(passwordFile);
        var settings = PostgresSettings.Of(options)
            .Prepend(new("listen_addresses", "127.0.0.1"))
            .Prepend(new("unix_socket_directories", PostgresSettings.SocketFolder(Folder)))
            .Select(setting => $"{setting.Key} = '{setting.Value.Replace("'", "''", StringComparison.Ordinal)}'");
        await File.AppendAllLinesAsync(Path.Combine(folder.Data, "postgresql.conf"), settings, cancellationToken).ConfigureAwait(false);
    }

    // Between our look and the server's bind another process may take the port: then again, with another.
    private async Task StartAsync(PostgresServerOptions options, CancellationToken cancellationToken)
    {
        var log = Path.Combine(Folder, "log");
        for (var tries = 1; ; tries++)
        {
            var port = FreePort();
            var start = await ProgramRun.ToEndAsync(
                user.Command(
                    InstalledPostgres.Program(bin, "pg_ctl"), "-D", folder.Data, "-l", log, "-s", "-w",
                    "-t", Math.Ceiling(options.StartTimeout.TotalSeconds).ToString(CultureInfo.InvariantCulture), "-o", $"-p {port}", "start"),
                cancellationToken,
                capture: !OperatingSystem.IsWindows()).ConfigureAwait(false);
            if (start.ExitCode == 0)
            {
                ConnectionString = ConnectionTo(port);
                return;
            }

            var said = File.Exists(log) ? await File.ReadAllTextAsync(log, cancellationToken).ConfigureAwait(false) : start.Output;
            if (tries == PortTries || !said.Contains("lock file", StringComparison.Ordinal) && !said.Contains("bind", StringComparison.Ordinal))
                throw new PostgresServerException($"PostgreSQL in {bin} did not start: {said.Trim()}");
            File.Delete(log);
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    // The server speaks neither TLS nor GSS: asking for them would cost two round trips per connection.
    private string ConnectionTo(int port) => new NpgsqlConnectionStringBuilder
    {
        Host = "127.0.0.1",
        Port = port,
        Username = "postgres",
        Password = password,
        Database = "postgres",
        SslMode = SslMode.Disable,
        GssEncryptionMode = GssEncryptionMode.Disable,
        IncludeErrorDetail = true,
    }.ConnectionString;
}
