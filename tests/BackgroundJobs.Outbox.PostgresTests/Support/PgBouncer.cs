using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// A PgBouncer of its own before the test's server, in transaction mode: no session state survives a COMMIT.
internal sealed class PgBouncer : IAsyncDisposable
{
    private readonly Process process;
    private readonly string folder;

    private PgBouncer(Process process, string folder, string connectionString)
    {
        this.process = process;
        this.folder = folder;
        ConnectionString = connectionString;
    }

    public string ConnectionString { get; }

    public static string? Program { get; } =
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Append("/usr/sbin")
        .Select(folder => Path.Combine(folder, "pgbouncer"))
        .FirstOrDefault(File.Exists);

    public static async Task<PgBouncer> StartAsync(string server, int poolSize = 3)
    {
        Assert.SkipWhen(Program is null, "PgBouncer is not installed (apt-get install pgbouncer).");
        var target = new NpgsqlConnectionStringBuilder(server);
        var port = FreePort();
        var folder = Directory.CreateTempSubdirectory("outbox-pgbouncer-").FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, "users.txt"), $"\"{target.Username}\" \"{target.Password}\"\n");
        var ini = Path.Combine(folder, "pgbouncer.ini");
        await File.WriteAllTextAsync(ini, $"""
            [databases]
            * = host={target.Host} port={target.Port}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {folder}/users.txt
            pool_mode = transaction
            default_pool_size = {poolSize}
            max_client_conn = 200
            """);
        var process = Process.Start(StartInfo(ini, folder))!;
        var bouncer = new PgBouncer(process, folder, new NpgsqlConnectionStringBuilder(server)
        {
            Host = "127.0.0.1",
            Port = port,
            NoResetOnClose = true,
            MaxAutoPrepare = 0,
        }.ConnectionString);
        await bouncer.WaitAsync();
        return bouncer;
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

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
