using Dapper;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests;

// A database of a test's own: a copy of a template that is prepared once per process.
public sealed class TestDatabase : IAsyncDisposable
{
    private static readonly Lazy<Task<string>> template = new(PrepareTemplateAsync);

    private TestDatabase(string connectionString)
    {
        ConnectionString = connectionString;
        DataSource = NpgsqlDataSource.Create(connectionString);
    }

    public string ConnectionString { get; }

    public NpgsqlDataSource DataSource { get; }

    public static async Task<TestDatabase> CreateAsync()
    {
        var server = await TestServer.RunningAsync();
        return new TestDatabase(await server.CreateDatabaseAsync(await template.Value, TestContext.Current.CancellationToken));
    }

    // A database with nothing in it, not even the schema.
    public static async Task<TestDatabase> CreateEmptyAsync()
    {
        var server = await TestServer.RunningAsync();
        return new TestDatabase(await server.CreateDatabaseAsync(cancellationToken: TestContext.Current.CancellationToken));
    }

    // Dapper binds the members of `parameters`: new { id = 7 } for @id.
    public async Task<T> ScalarAsync<T>(string sql, object? parameters = null)
    {
        await using var connection = await DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        return (await connection.ExecuteScalarAsync<T>(
            new CommandDefinition(sql, parameters, cancellationToken: TestContext.Current.CancellationToken)))!;
    }

    public async Task<int> ExecuteAsync(string sql, object? parameters = null)
    {
        await using var connection = await DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        return await connection.ExecuteAsync(
            new CommandDefinition(sql, parameters, cancellationToken: TestContext.Current.CancellationToken));
    }

    public async ValueTask DisposeAsync()
    {
        await DataSource.DisposeAsync();
        await (await TestServer.RunningAsync()).DropDatabaseAsync(ConnectionString, CancellationToken.None);
    }

    // What every test finds in its database. Whoever connects here must be gone when it ends: dispose the data source.
    private static Task MigrateTemplateAsync(string connectionString) => Task.CompletedTask;

    private static async Task<string> PrepareTemplateAsync()
    {
        var connectionString = await (await TestServer.RunningAsync()).CreateDatabaseAsync();
        await MigrateTemplateAsync(connectionString);
        return connectionString;
    }
}
