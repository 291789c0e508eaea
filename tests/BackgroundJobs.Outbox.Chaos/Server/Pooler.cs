using System.Diagnostics;
using System.Globalization;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Server;

/// <summary>A PgBouncer of its own before a server, in transaction mode: no session state survives a COMMIT.</summary>
internal sealed class Pooler : IAsyncDisposable
{
    private readonly Process process;
    private readonly string folder;
    private readonly string server;

    private Pooler(Process process, string folder, string server, int port)
    {
        this.process = process;
        this.folder = folder;
        this.server = server;
        Port = port;
    }

    /// <summary>Where it is on this machine; null where it is not installed.</summary>
    public static string? Program { get; } =
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Append("/usr/sbin")
        .Select(folder => Path.Combine(folder, "pgbouncer"))
        .FirstOrDefault(File.Exists);

    public int Port { get; }

    public string ConnectionString => new NpgsqlConnectionStringBuilder(server)
    {
        Host = "127.0.0.1",
        Port = Port,
        NoResetOnClose = true,
        MaxAutoPrepare = 0,
    }.ConnectionString;

    /// <summary>Starts one, and returns when it answers.</summary>
    /// <param name="server">The user and the database that it is for.</param>
    /// <param name="poolSize">How many connections to the server it keeps.</param>
    /// <returns>The pooler.</returns>
    public static async Task<Pooler> StartAsync(string server, int poolSize)
    {
        var target = new NpgsqlConnectionStringBuilder(server);
        var port = FreePort.Find();
        var folder = Directory.CreateTempSubdirectory("outbox-pgbouncer-").FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, "users.txt"), $"\"{target.Username}\" \"{target.Password}\"\n");
        var ini = Path.Combine(folder, "pgbouncer.ini");
        await File.WriteAllTextAsync(ini, string.Create(CultureInfo.InvariantCulture, $"""
            [databases]
            * = host={target.Host} port={target.Port}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {folder}/users.txt
            admin_users = {target.Username}
            pool_mode = transaction
            default_pool_size = {poolSize}
            max_client_conn = 200
            server_login_retry = 1
            """));
        var pooler = new Pooler(Process.Start(StartInfo(ini, folder))!, folder, server, port);
        await pooler.WaitAsync();
        return pooler;
    }

    /// <summary>Says something to its own console: RECONNECT, KILL, RESUME.</summary>
    /// <param name="command">The command.</param>
    /// <returns>A task.</returns>
    public async Task CommandAsync(string command)
    {
        // By psql: its console knows the simple protocol alone, which Npgsql does not speak.
        var user = new NpgsqlConnectionStringBuilder(server).Username!;
        var run = await ProgramRun.ToEndAsync(
            ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", Port.ToString(CultureInfo.InvariantCulture), "-U", user, "-d", "pgbouncer", "-c", command], CancellationToken.None);
        if (run.ExitCode != 0)
            throw new InvalidOperationException($"PgBouncer refuses {command}: {run.Output}");
    }

    public async ValueTask DisposeAsync()
    {
        NpgsqlConnection.ClearAllPools();
        process.Kill();
        await process.WaitForExitAsync();
        process.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    // PgBouncer refuses to run as root; setpriv executes it in its own place, so the process is ours to stop.
    private static ProcessStartInfo StartInfo(string ini, string folder)
    {
        if (OperatingSystem.IsWindows() || Environment.UserName != "root")
            return new ProcessStartInfo(Program!, ["-q", ini]) { RedirectStandardError = true };
        File.SetUnixFileMode(folder, (UnixFileMode)0b111_101_101);
        return new ProcessStartInfo("setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", Program!, "-q", ini])
        {
            RedirectStandardError = true,
            WorkingDirectory = "/",
        };
    }

    private async Task WaitAsync()
    {
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                await using var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(ConnectionString) { Pooling = false }.ConnectionString);
                await connection.OpenAsync();
                return;
            }
            catch (NpgsqlException) when (attempt < 100 && !process.HasExited)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
            }
        }
    }
}
