using Npgsql;

namespace BackgroundJobs.Outbox.Testing;

/// <summary>
/// A real PostgreSQL for tests, samples and benchmarks. Taken from the first of: the server that the environment variable
/// <c>OUTBOX_CONNECTION</c> names; PostgreSQL's programs on this machine, as a private throwaway cluster; PostgreSQL 18 from npm, likewise;
/// a container. <c>OUTBOX_POSTGRES=installed|embedded|docker</c> forces one. What was started ends with its owner, also when that is killed.
/// </summary>
public sealed class PostgresServer : IAsyncDisposable
{
    private readonly IAsyncDisposable? started;
    private readonly SemaphoreSlim creating = new(1, 1);

    internal PostgresServer(string connectionString, string source, IAsyncDisposable? started)
    {
        ConnectionString = connectionString;
        Source = source;
        this.started = started;
    }

    /// <summary>To the database <c>postgres</c>, as a user who may create databases.</summary>
    public string ConnectionString { get; }

    /// <summary>Where it comes from, for people: "installed in /usr/lib/postgresql/15/bin".</summary>
    public string Source { get; }

    /// <summary>Finds or starts a server.</summary>
    /// <param name="options">How a started server is to be. Default: fast and not durable.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>A server that takes connections.</returns>
    /// <exception cref="PostgresServerException">There is none and none can be started; the message lists the ways and why each failed.</exception>
    public static async Task<PostgresServer> StartAsync(PostgresServerOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new PostgresServerOptions();
        var forced = Environment.GetEnvironmentVariable("OUTBOX_POSTGRES");
        if (forced is not (null or "" or "installed" or "embedded" or "docker"))
            throw new PostgresServerException($"OUTBOX_POSTGRES is '{forced}', which names no way to get a PostgreSQL. Use installed, embedded or docker, or unset it.");
        if (string.IsNullOrEmpty(forced) && Environment.GetEnvironmentVariable("OUTBOX_CONNECTION") is { Length: > 0 } given)
            return await GivenAsync(given, cancellationToken).ConfigureAwait(false);

        List<string> failures = [];
        foreach (var (way, start) in Ways(options, cancellationToken))
        {
            if (!string.IsNullOrEmpty(forced) && forced != way)
                continue;
            try
            {
                return await start().ConfigureAwait(false);
            }
            catch (PostgresServerException e)
            {
                failures.Add($"{way}: {e.Message}");
            }
        }

        throw new PostgresServerException(
            "No PostgreSQL was found or could be started. " + string.Join(" ", failures)
            + " Ways to get one: set OUTBOX_CONNECTION to a server's connection string; install PostgreSQL 14 or newer (apt-get install postgresql, brew install postgresql@17); "
            + "install Node.js with npm, which brings an embedded one; or start Docker.");
    }

    /// <summary>Creates a database with a name of its own.</summary>
    /// <param name="template">Copied from this database, to which nobody may be connected. Default: PostgreSQL's own template.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>Its connection string.</returns>
    public async Task<string> CreateDatabaseAsync(string? template = null, CancellationToken cancellationToken = default)
    {
        var name = $"outbox_{Guid.NewGuid():N}";

        // PostgreSQL copies a template for one at a time, and refuses the second instead of letting it wait.
        await creating.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await AdministerAsync($"CREATE DATABASE {name} TEMPLATE {Quoted(template ?? "template1")}", cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            creating.Release();
        }

        return new NpgsqlConnectionStringBuilder(ConnectionString) { Database = name }.ConnectionString;
    }

    /// <summary>Drops a database, whoever is connected to it.</summary>
    /// <param name="connectionString">As <see cref="CreateDatabaseAsync"/> returned it.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>A task.</returns>
    public Task DropDatabaseAsync(string connectionString, CancellationToken cancellationToken = default) => AdministerAsync(
        $"DROP DATABASE IF EXISTS {Quoted(new NpgsqlConnectionStringBuilder(connectionString).Database!)} WITH (FORCE)", cancellationToken);

    /// <summary>Stops what was started, and removes its files. A server that was given is left alone.</summary>
    /// <returns>A task.</returns>
    public async ValueTask DisposeAsync()
    {
        if (started is not null)
            await started.DisposeAsync().ConfigureAwait(false);
        creating.Dispose();
    }

    private static IEnumerable<(string Way, Func<Task<PostgresServer>> Start)> Ways(PostgresServerOptions options, CancellationToken cancellationToken)
    {
        yield return ("installed", () => InstalledPostgres.StartAsync(options, cancellationToken));
        yield return ("embedded", () => EmbeddedPostgres.StartAsync(options, cancellationToken));
        yield return ("docker", () => DockerPostgres.StartAsync(options, cancellationToken));
    }

    private static async Task<PostgresServer> GivenAsync(string connectionString, CancellationToken cancellationToken)
    {
        try
        {
            await using var connection = new NpgsqlConnection(connectionString);
            await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
            return new PostgresServer(connectionString, $"given by OUTBOX_CONNECTION, PostgreSQL {connection.PostgreSqlVersion}", null);
        }
        catch (Exception e) when (e is NpgsqlException or ArgumentException)
        {
            throw new PostgresServerException($"The server that OUTBOX_CONNECTION names takes no connection: {e.Message} Correct the variable, or unset it to let one be found.", e);
        }
    }

    private async Task AdministerAsync(string sql, CancellationToken cancellationToken)
    {
        await using var connection = new NpgsqlConnection(ConnectionString);
        await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
        await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 120 };
        await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    private static string Quoted(string name) => $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
