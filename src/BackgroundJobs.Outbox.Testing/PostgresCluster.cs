using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Npgsql;

namespace BackgroundJobs.Outbox.Testing;

// A private cluster in a folder of its own: made, started, and gone with its owner. A watchdog stands between us and the server: a shell whose
// standard input is a pipe from us. However we end, the pipe closes; then it stops the server and removes the folder. (The kernel's
// parent-death signal would do that too, but on Linux it follows the thread that started the child, and on other systems there is none.)
internal sealed class PostgresCluster : IAsyncDisposable
{
    // "$1": the folder; the rest: the server. In a process group of its own, so that Ctrl-C in the terminal reaches us first.
    private const string Watchdog = """
        folder=$1; shift
        trap '' INT TERM HUP
        set -m 2>/dev/null
        "$@" </dev/null >"$folder/log" 2>&1 &
        server=$!
        set +m
        cat >/dev/null
        kill -INT "$server" 2>/dev/null
        ( n=0; while [ $n -lt 10 ]; do sleep 1; n=$((n+1)); done; kill -QUIT "$server" ) >/dev/null 2>&1 &
        guard=$!
        wait "$server" 2>/dev/null
        kill "$guard" 2>/dev/null
        rm -rf "$folder"
        """;

    private readonly string folder;
    private readonly Process process;

    private PostgresCluster(string folder, Process process)
    {
        this.folder = folder;
        this.process = process;
    }

    public static async Task<PostgresServer> StartAsync(string programs, string source, PostgresServerOptions options, CancellationToken cancellationToken)
    {
        var folder = Directory.CreateTempSubdirectory("outbox-pg-").FullName;
        try
        {
            var user = ServerUser.Current;
            var password = RandomNumberGenerator.GetHexString(32);
            var passwordFile = Path.Combine(folder, "password");
            await File.WriteAllTextAsync(passwordFile, password + "\n", cancellationToken).ConfigureAwait(false);
            await user.OwnAsync(folder, cancellationToken).ConfigureAwait(false);
            var data = Path.Combine(folder, "data");
            await user.RunAsync(
                InstalledPostgres.Program(programs, "initdb"),
                ["-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", passwordFile, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
                cancellationToken).ConfigureAwait(false);
            File.Delete(passwordFile);

            for (var attempt = 1; ; attempt++)
            {
                var port = FreePort();
                var cluster = Start(programs, folder, user, Arguments(folder, data, port, options));
                var connectionString = new NpgsqlConnectionStringBuilder
                {
                    Host = "127.0.0.1",
                    Port = port,
                    Username = "postgres",
                    Password = password,
                    Database = "postgres",
                    IncludeErrorDetail = true,
                }.ConnectionString;
                if (await cluster.WaitAsync(connectionString, options.StartTimeout, cancellationToken).ConfigureAwait(false))
                    return new PostgresServer(connectionString, source, cluster);

                // Somebody else may have taken the port between our look and the server's bind.
                var log = await cluster.LogAsync().ConfigureAwait(false);
                if (attempt == 3 || !log.Contains("could not bind", StringComparison.Ordinal))
                {
                    await cluster.DisposeAsync().ConfigureAwait(false);
                    throw new PostgresServerException($"the server in {programs} does not start: {log}");
                }

                await cluster.EndAsync(keepFolder: true).ConfigureAwait(false);
            }
        }
        catch
        {
            if (Directory.Exists(folder))
                Directory.Delete(folder, recursive: true);
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        AppDomain.CurrentDomain.ProcessExit -= OnExit;
        await EndAsync(keepFolder: false).ConfigureAwait(false);
        process.Dispose();
    }

    private static PostgresCluster Start(string programs, string folder, ServerUser user, string[] arguments)
    {
        var server = InstalledPostgres.Program(programs, "postgres");
        var start = OperatingSystem.IsWindows()
            ? new ProcessStartInfo(server, arguments)
            : new ProcessStartInfo("/bin/sh", ["-c", Watchdog, "outbox-postgres", folder, .. user.Prefix, server, .. arguments]);
        start.WorkingDirectory = Path.GetPathRoot(folder);
        start.RedirectStandardInput = true;
        start.UseShellExecute = false;
        var cluster = new PostgresCluster(folder, Process.Start(start)!);
        AppDomain.CurrentDomain.ProcessExit += cluster.OnExit;
        return cluster;
    }

    private static string[] Arguments(string folder, string data, int port, PostgresServerOptions options)
    {
        Dictionary<string, string> settings = new(StringComparer.Ordinal)
        {
            ["listen_addresses"] = "127.0.0.1",
            ["port"] = port.ToString(CultureInfo.InvariantCulture),
            ["max_connections"] = options.MaxConnections.ToString(CultureInfo.InvariantCulture),
            ["shared_buffers"] = "256MB",
            ["max_wal_size"] = "2GB",

            // A socket's path holds 107 bytes; where the folder's is too long for it there is the port.
            ["unix_socket_directories"] = OperatingSystem.IsWindows() || folder.Length > 80 ? "" : folder,
        };
        if (!options.Durable)
        {
            settings["fsync"] = "off";
            settings["full_page_writes"] = "off";
            settings["synchronous_commit"] = "off";
        }

        foreach (var (name, value) in options.Settings)
            settings[name] = value;
        return ["-D", data, .. settings.SelectMany(each => new[] { "-c", $"{each.Key}={each.Value}" })];
    }

    private async Task<bool> WaitAsync(string connectionString, TimeSpan limit, CancellationToken cancellationToken)
    {
        var started = TimeProvider.System.GetTimestamp();
        while (TimeProvider.System.GetElapsedTime(started) < limit && !process.HasExited)
        {
            try
            {
                await using var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(connectionString) { Pooling = false, Timeout = 5 }.ConnectionString);
                await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
                return true;
            }
            catch (NpgsqlException)
            {
                if ((await LogAsync().ConfigureAwait(false)).Contains("FATAL:  could not", StringComparison.Ordinal))
                    return false;
                await Task.Delay(TimeSpan.FromMilliseconds(25), TimeProvider.System, cancellationToken).ConfigureAwait(false);
            }
        }

        return false;
    }

    private async Task<string> LogAsync()
    {
        var log = Path.Combine(folder, "log");
        return File.Exists(log) ? (await File.ReadAllTextAsync(log).ConfigureAwait(false)).Trim() : "(no log)";
    }

    private async Task EndAsync(bool keepFolder)
    {
        if (OperatingSystem.IsWindows())
            process.Kill(entireProcessTree: true);
        else
            process.StandardInput.Close();
        await process.WaitForExitAsync().ConfigureAwait(false);
        if (!keepFolder && Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
    }

    // An owner that ends without disposing: the closed pipe does the rest, on Windows the kill.
    private void OnExit(object? sender, EventArgs e)
    {
        if (OperatingSystem.IsWindows())
            process.Kill(entireProcessTree: true);
        else
            process.StandardInput.Close();
        process.WaitForExit(TimeSpan.FromSeconds(15));
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
