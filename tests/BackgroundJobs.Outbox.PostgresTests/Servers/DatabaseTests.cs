using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests;

// A database per test.
public sealed class DatabaseTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Copies_of_a_template_have_its_content_and_do_not_see_each_other()
    {
        var server = await TestServer.GetAsync();
        var template = await TemplateAsync(server);
        var databases = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => server.CreateDatabaseAsync(template, Cancellation)));
        foreach (var database in databases)
            await ExecuteAsync(database, "INSERT INTO servers VALUES (2)");

        foreach (var database in databases)
            Assert.Equal(2L, await CountAsync(database));

        Assert.Equal(8, databases.Distinct().Count());
        foreach (var database in databases.Append(template))
            await server.DropDatabaseAsync(database, Cancellation);
    }

    [Fact]
    public async Task A_template_that_somebody_leaves_a_moment_later_is_waited_for()
    {
        var server = await TestServer.GetAsync();
        var template = await TemplateAsync(server);
        await using var source = NpgsqlDataSource.Create(template);
        var connection = await source.OpenConnectionAsync(Cancellation);
        var copy = server.CreateDatabaseAsync(template, Cancellation);
        await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System, Cancellation);
        Assert.False(copy.IsCompleted);

        await connection.DisposeAsync();
        await source.DisposeAsync();

        Assert.Equal(1L, await CountAsync(await copy));
    }

    [Fact]
    public async Task A_template_that_somebody_holds_is_an_error_that_says_what_to_do()
    {
        var server = await TestServer.GetAsync();
        var template = await TemplateAsync(server);
        await using var maker = new DatabaseMaker(server.ConnectionString) { TemplateWait = TimeSpan.FromSeconds(1) };
        await using var source = NpgsqlDataSource.Create(template);
        await using var connection = await source.OpenConnectionAsync(Cancellation);

        var e = await Assert.ThrowsAsync<PostgresServerException>(() => maker.CreateAsync(template, Cancellation));

        Assert.Contains(new NpgsqlConnectionStringBuilder(template).Database!, e.Message, StringComparison.Ordinal);
        Assert.Contains("1 other session", e.Message, StringComparison.Ordinal);
        Assert.Contains("Dispose the data source that prepared it", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_database_is_dropped_with_the_sessions_in_it_by_name_too_and_twice()
    {
        var server = await TestServer.GetAsync();
        var database = await server.CreateDatabaseAsync(cancellationToken: Cancellation);
        await using var source = NpgsqlDataSource.Create(database);
        await using var connection = await source.OpenConnectionAsync(Cancellation);

        await server.DropDatabaseAsync(new NpgsqlConnectionStringBuilder(database).Database!, Cancellation);
        await server.DropDatabaseAsync(database, Cancellation);

        var e = await Assert.ThrowsAsync<PostgresException>(() => ExecuteAsync(database, "SELECT 1"));
        Assert.Equal(PostgresErrorCodes.InvalidCatalogName, e.SqlState);
    }

    [Fact]
    public async Task A_test_database_is_gone_when_it_is_disposed()
    {
        var database = await ScratchDatabase.EmptyAsync();
        await database.ExecuteAsync("CREATE TABLE servers (id int)");
        await database.ExecuteAsync("INSERT INTO servers VALUES (7)");
        Assert.Equal(7, await database.ScalarAsync<int>("SELECT id FROM servers"));

        await database.DisposeAsync();

        var e = await Assert.ThrowsAsync<PostgresException>(() => ExecuteAsync(database.ConnectionString, "SELECT 1"));
        Assert.Equal(PostgresErrorCodes.InvalidCatalogName, e.SqlState);
    }

    private static async Task<string> TemplateAsync(PostgresServer server)
    {
        var template = await server.CreateDatabaseAsync(cancellationToken: Cancellation);
        await ExecuteAsync(template, "CREATE TABLE servers (id int); INSERT INTO servers VALUES (1)");
        return template;
    }

    private static async Task<long> CountAsync(string connectionString)
    {
        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var command = source.CreateCommand("SELECT count(*) FROM servers");
        return (long)(await command.ExecuteScalarAsync(Cancellation))!;
    }

    private static async Task ExecuteAsync(string connectionString, string sql)
    {
        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var command = source.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(Cancellation);
    }
}
