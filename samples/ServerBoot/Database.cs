using System.Diagnostics;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace ServerBoot;

// A PostgreSQL, and in it a database of this run.
internal sealed class Database : IAsyncDisposable
{
    private readonly PostgresServer server;

    private Database(PostgresServer server, string connectionString)
    {
        this.server = server;
        ConnectionString = connectionString;
        Connections = NpgsqlDataSource.Create(connectionString);
    }

    public string ConnectionString { get; }

    public NpgsqlDataSource Connections { get; }

    public string Source => server.Source;

    public static async Task<Database> CreateAsync(string? connection, CancellationToken cancellationToken)
    {
        if (connection is not null)
        {
            Environment.SetEnvironmentVariable("OUTBOX_POSTGRES", null);
            Environment.SetEnvironmentVariable("OUTBOX_CONNECTION", connection);
        }

        var server = await FindServerAsync(cancellationToken);
        Database database;
        try
        {
            database = new Database(server, await server.CreateDatabaseAsync(cancellationToken: cancellationToken));
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }

        try
        {
            await Migrator.MigrateAsync(database.ConnectionString, cancellationToken: cancellationToken);
            await using var command = database.Connections.CreateCommand(Sql.Read("schema"));
            await command.ExecuteNonQueryAsync(cancellationToken);
            return database;
        }
        catch
        {
            await database.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Connections.DisposeAsync();
        try
        {
            // A server that was given keeps nothing of us.
            await server.DropDatabaseAsync(ConnectionString, CancellationToken.None);
        }
        catch (NpgsqlException e)
        {
            await Console.Error.WriteLineAsync($"The database of this run could not be dropped: {e.Message}");
        }

        await server.DisposeAsync();
    }

    private static async Task<PostgresServer> FindServerAsync(CancellationToken cancellationToken)
    {
        // Durable: the story is about what survives, and about how long a real commit takes.
        var options = new PostgresServerOptions { Durable = true };
        try
        {
            return await PostgresServer.StartAsync(options, cancellationToken);
        }
        catch (PostgresServerException) when (MayInstall())
        {
            Console.WriteLine("No PostgreSQL was found. This is Debian or Ubuntu and we are root: installing the package 'postgresql' with apt-get.");
            await AptAsync(["update", "-q"], cancellationToken);
            await AptAsync(["install", "-q", "-y", "--no-install-recommends", "postgresql"], cancellationToken);
            return await PostgresServer.StartAsync(options, cancellationToken);
        }
    }

    // Not where someone has named the server to take: a wrong name is no missing PostgreSQL.
    private static bool MayInstall() =>
        OperatingSystem.IsLinux() && Environment.UserName == "root" && File.Exists("/usr/bin/apt-get")
        && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("OUTBOX_CONNECTION"))
        && Environment.GetEnvironmentVariable("OUTBOX_POSTGRES") is (null or "" or "installed");

    private static async Task AptAsync(string[] arguments, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo("/usr/bin/apt-get", arguments);
        start.Environment["DEBIAN_FRONTEND"] = "noninteractive";
        using var apt = Process.Start(start)!;
        await apt.WaitForExitAsync(cancellationToken);
        if (apt.ExitCode != 0)
            throw new PostgresServerException(
                $"apt-get {string.Join(' ', arguments)} ended with {apt.ExitCode}. Install PostgreSQL 14 or newer yourself, or give a server: --connection \"Host=...\".");
    }
}
