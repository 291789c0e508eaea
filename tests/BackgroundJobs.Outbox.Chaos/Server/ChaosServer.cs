using System.Globalization;
using System.Net;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Server;

// A durable PostgreSQL of the run's own, which can be stopped and started again in its place, with the run's database in it.
internal sealed class ChaosServer : IAsyncDisposable
{
    private const string Password = "chaos";
    private readonly PostgresServer server;
    private readonly ServerUser user;
    private readonly string bin;
    private readonly string original;
    private string data;
    private int copies;

    private ChaosServer(PostgresServer server, ServerUser user, string bin, string data, string database)
    {
        this.server = server;
        this.user = user;
        this.bin = bin;
        original = this.data = data;
        AdminConnectionString = database;

        // Not pooled where a server is stopped under its connections: a fault's own session is opened when it needs one.
        Admin = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(database) { ApplicationName = "chaos", Timeout = 5, CommandTimeout = 15, MaxPoolSize = 8 }.ConnectionString);
    }

    /// <summary>Of a superuser, past every proxy.</summary>
    public string AdminConnectionString { get; }

    public NpgsqlDataSource Admin { get; }

    public IPEndPoint EndPoint => new(IPAddress.Loopback, new NpgsqlConnectionStringBuilder(AdminConnectionString).Port);

    /// <summary>Of the server that answers now.</summary>
    public string Data => data;

    /// <summary>Whether this PostgreSQL has the program that a standby is made with; the embedded one has not.</summary>
    public bool CanMakeStandby => File.Exists(Path.Combine(bin, "pg_basebackup"));

    public string Description => server.ToString();

    public static async Task<ChaosServer> StartAsync(int maxConnections, CancellationToken cancellationToken)
    {
        // Durable: a commit that was answered must survive the server's crash.
        var options = new PostgresServerOptions { Durable = true, MaxConnections = maxConnections };
        options.Settings["wal_level"] = "logical";
        options.Settings["max_wal_size"] = "1GB";
        options.Settings["log_min_messages"] = "warning";

        // Sessions are told apart by their last statement.
        options.Settings["track_activity_query_size"] = "8192";
        var server = await PostgresServer.StartAsync(options, cancellationToken);
        var user = await ServerUser.FindAsync(SearchPlaces.OfThisProcess(), cancellationToken);
        await using var connections = NpgsqlDataSource.Create(server.ConnectionString);
        var data = await ScalarAsync<string>(connections, "SELECT current_setting('data_directory')", cancellationToken);
        var bin = await ScalarAsync<string>(connections, "SELECT setting FROM pg_config WHERE name = 'BINDIR'", cancellationToken);
        if (!File.Exists(Path.Combine(bin, "pg_ctl")))
            bin = Path.GetDirectoryName(File.ResolveLinkTarget(await RunningProgramAsync(data), returnFinalTarget: true)!.FullName)!;
        var database = await server.CreateDatabaseAsync(cancellationToken: cancellationToken);
        var made = new ChaosServer(server, user, bin, data, database);
        await made.PrepareAsync(cancellationToken);
        return made;
    }

    // What an actor connects with: an ordinary role that owns the database, through a proxy or a pooler.
    public string ConnectionString(int port) => new NpgsqlConnectionStringBuilder(AdminConnectionString)
    {
        Username = "chaos",
        Password = Password,
        Port = port,
        Timeout = 5,
        CommandTimeout = 10,
        NoResetOnClose = false,
        IncludeErrorDetail = false,
    }.ConnectionString;

    public Task StopAsync() => StopAsync(data);

    public Task StartAgainAsync() => StartAsync(data, EndPoint.Port);

    // In its place and on its port, what a backup or a standby holds.
    public Task StartAgainAsync(string otherData) => StartAsync(otherData, EndPoint.Port);

    // Of a stopped server.
    public async Task<string> CopyAsync()
    {
        var copy = Beside($"copy{++copies}");
        await RunAsync("cp", "-a", data, copy);
        return copy;
    }

    // Of the running one, with what a standby needs to follow it.
    public async Task<string> BaseBackupAsync()
    {
        var builder = new NpgsqlConnectionStringBuilder(AdminConnectionString);
        var standby = Beside($"standby{++copies}");
        List<string> command =
        [
            Path.Combine(bin, "pg_basebackup"), "-D", standby, "-R", "-X", "stream", "-c", "fast", "-d",
            $"host=127.0.0.1 port={builder.Port} user={builder.Username} password={builder.Password}",
        ];

        // The copy's place is on the same small disk, to be filled with it.
        if (await ScalarAsync<string>("SELECT coalesce(max(pg_tablespace_location(oid)), '') FROM pg_tablespace WHERE spcname = 'small'") is { Length: > 0 } space)
            command.AddRange(["-T", $"{space}={Path.Combine(Path.GetDirectoryName(space)!, $"tables{copies}")}"]);
        await RunAsync([.. command]);
        return standby;
    }

    // Another data folder's server answers on our port from now on. What is left of the last one goes, but for the first one's folder, which its owner looks after.
    public async Task BecomeAsync(string otherData)
    {
        var (last, space) = (data, "");
        foreach (var link in Directory.EnumerateFileSystemEntries(Path.Combine(last, "pg_tblspc")))
            space = new FileInfo(link).LinkTarget ?? "";
        data = otherData;
        Admin.Clear();
        await RemoveAsync(last, space);
    }

    public async Task RemoveAsync(string otherData, string space = "")
    {
        if (otherData != original)
            await RunAsync("rm", "-rf", otherData);
        if (space.Length > 0)
            await RunAsync("rm", "-rf", space);
    }

    // Where a promoted server's history leaves the one it followed.
    public static async Task<ulong> TookOverAtAsync(string promotedData)
    {
        var file = Directory.EnumerateFiles(Path.Combine(promotedData, "pg_wal"), "*.history").Max(StringComparer.Ordinal)!;
        var lsn = (await File.ReadAllLinesAsync(file)).Last(line => line.Contains('/', StringComparison.Ordinal)).Split('\t')[1].Split('/');
        return (ulong.Parse(lsn[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture) << 32) | ulong.Parse(lsn[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    // On another port, for nobody but us.
    public NpgsqlDataSource AdminAt(int port) => NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(AdminConnectionString) { Port = port, Pooling = false, ApplicationName = "chaos" }.ConnectionString);

    public Task StopAsync(string otherData) => PgCtlAsync(otherData, "-m", "immediate", "-w", "stop");

    public Task StartAsync(string otherData, int port, string settings = "") => PgCtlAsync(
        otherData, "-w", "-t", "60", "-l", Beside("log"), "-o", string.Create(CultureInfo.InvariantCulture, $"-p {port} {settings}"), "start");

    public Task PromoteAsync(string otherData) => PgCtlAsync(otherData, "-w", "-t", "60", "promote");

    public async Task<T> ScalarAsync<T>(string sql, CancellationToken cancellationToken = default) => await ScalarAsync<T>(Admin, sql, cancellationToken);

    public async Task ExecuteAsync(string sql, CancellationToken cancellationToken = default)
    {
        await using var command = Admin.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    // For a fault that holds something open: a session of its own, ended for certain with it.
    public async Task<NpgsqlConnection> SessionAsync(bool asActor = false, CancellationToken cancellationToken = default)
    {
        var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(asActor ? ConnectionString(EndPoint.Port) : AdminConnectionString)
        {
            Pooling = false,
            ApplicationName = "chaos",
            Timeout = 5,
        }.ConnectionString);
        try
        {
            await connection.OpenAsync(cancellationToken);
            return connection;
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }

    public async Task GiveAsync(string folder, CancellationToken cancellationToken) => await user.GiveAsync(folder, cancellationToken);

    public async ValueTask DisposeAsync()
    {
        await Admin.DisposeAsync();
        if (data != original)
            await StopAsync();
        await server.DisposeAsync();
    }

    private static async Task<T> ScalarAsync<T>(NpgsqlDataSource connections, string sql, CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand(sql);
        return await command.ExecuteScalarAsync(cancellationToken) is T value ? value : throw new InvalidOperationException($"No {typeof(T).Name} came of: {sql}");
    }

    // A packaged server may have been built for another folder than it lies in: the running one knows.
    private static async Task<string> RunningProgramAsync(string data) =>
        $"/proc/{(await File.ReadAllLinesAsync(Path.Combine(data, "postmaster.pid")))[0]}/exe";

    private async Task PrepareAsync(CancellationToken cancellationToken)
    {
        var name = new NpgsqlConnectionStringBuilder(AdminConnectionString).Database;
        await ExecuteAsync($"CREATE ROLE chaos LOGIN PASSWORD '{Password}'; ALTER DATABASE \"{name}\" OWNER TO chaos; CREATE EXTENSION amcheck", cancellationToken);
        await using (var connections = NpgsqlDataSource.Create(ConnectionString(EndPoint.Port)))
        {
            await new Migrator(connections).MigrateAsync(cancellationToken);
            await using var schema = connections.CreateCommand(await new StreamReader(typeof(ChaosServer).Assembly.GetManifestResourceStream("schema")!).ReadToEndAsync(cancellationToken));
            await schema.ExecuteNonQueryAsync(cancellationToken);
        }
    }

    private string Beside(string name) => Path.Combine(Path.GetDirectoryName(data)!, name);

    private Task PgCtlAsync(string folder, params string[] arguments) => RunAsync([Path.Combine(bin, "pg_ctl"), "-D", folder, .. arguments]);

    private async Task RunAsync(params string[] command)
    {
        var run = await ProgramRun.ToEndAsync(user.Command(command), CancellationToken.None);
        if (run.ExitCode != 0)
            throw new InvalidOperationException($"{Path.GetFileName(command[0])} ended with {run.ExitCode}: {run.Output}");
    }
}
