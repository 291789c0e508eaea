using Npgsql;

namespace BackgroundJobs.Outbox.Testing;

/// <summary>
/// A real PostgreSQL for integration tests: given by <c>OUTBOX_CONNECTION</c>, else a throwaway cluster of the programs installed here, else
/// an embedded one, else a container. <c>OUTBOX_POSTGRES=installed|embedded|docker</c> forces one. What was started stops with the process
/// that started it, however that ends, and leaves nothing behind. Start one per test process, and make a database per test.
/// </summary>
public sealed class PostgresServer : IAsyncDisposable
{
    private readonly RunningPostgres running;
    private readonly DatabaseMaker databases;

    private PostgresServer(RunningPostgres running, Version version)
    {
        this.running = running;
        Version = version;
        databases = new DatabaseMaker(running.ConnectionString);
    }

    /// <summary>A connection string of a superuser (a given server: of the given user) to a database that always exists.</summary>
    public string ConnectionString => running.ConnectionString;

    /// <summary>Which way the server was got.</summary>
    public PostgresWay Way => running.Way;

    /// <summary>Where it comes from, for people: "installed in /usr/lib/postgresql/15/bin".</summary>
    public string Source => running.Source;

    /// <summary>The server's version, e.g. 18.4.</summary>
    public Version Version { get; }

    /// <summary>Finds or starts a server, and returns when it answers.</summary>
    /// <param name="options">How to start it. Default: fast and not durable.</param>
    /// <param name="cancellationToken">Stops the search; what was started by then is stopped.</param>
    /// <returns>The server. Dispose it, or leave it to the end of the process.</returns>
    /// <exception cref="PostgresServerException">No way worked, or the forced one did not: the message says why each failed.</exception>
    public static Task<PostgresServer> StartAsync(PostgresServerOptions? options = null, CancellationToken cancellationToken = default) =>
        StartAsync(options ?? new PostgresServerOptions(), SearchPlaces.OfThisProcess(), cancellationToken);

    internal static async Task<PostgresServer> StartAsync(PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxConnections, 1);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(options.StartTimeout, TimeSpan.Zero);

        var running = await PostgresSearch.RunAsync(options, places, cancellationToken).ConfigureAwait(false);
        try
        {
            await using var source = NpgsqlDataSource.Create(running.ConnectionString);
            await using var connection = await source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
            return new PostgresServer(running, connection.PostgreSqlVersion);
        }
        catch (Exception e)
        {
            await running.DisposeAsync().ConfigureAwait(false);
            if (e is NpgsqlException)
                throw new PostgresServerException($"PostgreSQL ({running.Source}) does not answer: {e.Message} Check the connection and that the server runs.", e);
            throw;
        }
    }

    /// <summary>Makes a new database with a name of its own.</summary>
    /// <param name="template">The database to copy: its name, or a connection string to it. Nobody may be connected to it. Default: an empty one.</param>
    /// <param name="cancellationToken">Stops the wait; the database may exist all the same.</param>
    /// <returns>A connection string to the new database.</returns>
    /// <exception cref="PostgresServerException">Somebody stayed connected to the template.</exception>
    public Task<string> CreateDatabaseAsync(string? template = null, CancellationToken cancellationToken = default) =>
        databases.CreateAsync(template, cancellationToken);

    /// <summary>Drops a database, and ends the sessions that are connected to it. One that does not exist is no error.</summary>
    /// <param name="database">Its name, or a connection string to it.</param>
    /// <param name="cancellationToken">Stops the wait.</param>
    /// <returns>A task that ends when the database is gone.</returns>
    public Task DropDatabaseAsync(string database, CancellationToken cancellationToken = default) =>
        databases.DropAsync(database, cancellationToken);

    /// <summary>Stops the server and removes all of it. A given server goes on running; the databases made here are dropped from it.</summary>
    /// <returns>A task that ends when no process and no file is left.</returns>
    public async ValueTask DisposeAsync()
    {
        try
        {
            if (Way == PostgresWay.Given)
                await databases.DropAllAsync().ConfigureAwait(false);
        }
        finally
        {
            await databases.DisposeAsync().ConfigureAwait(false);
            await running.DisposeAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Version and origin in words, e.g. "PostgreSQL 15.18, installed in /usr/lib/postgresql/15/bin".</summary>
    /// <returns>The sentence.</returns>
    public override string ToString() => $"PostgreSQL {Version}, {Source}";
}
