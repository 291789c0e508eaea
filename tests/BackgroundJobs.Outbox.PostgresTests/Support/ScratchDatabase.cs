using System.Diagnostics;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// A database of its own for one test class or test, with our schema or empty; dropped at the end.
internal sealed class ScratchDatabase : IAsyncDisposable
{
    private static readonly Lazy<Task<string>> Template = new(MakeTemplateAsync);

    private readonly Lazy<NpgsqlDataSource> enqueuer;
    private readonly Lazy<NpgsqlDataSource> inspector;
    private readonly Lazy<NpgsqlDataSource> operators;

    private readonly bool isOurs;

    private ScratchDatabase(string connectionString, bool hasRoles, string? application = null)
    {
        isOurs = application is null;
        AdminConnectionString = connectionString;
        Admin = NpgsqlDataSource.Create(connectionString);
        ConnectionString = application ?? As(TestRoles.Application);
        DataSource = NpgsqlDataSource.Create(ConnectionString);
        enqueuer = new(() => NpgsqlDataSource.Create(As(TestRoles.Enqueuer)));
        inspector = new(() => NpgsqlDataSource.Create(As(TestRoles.Inspector)));
        operators = new(() => NpgsqlDataSource.Create(As(TestRoles.Operator)));

        string As(string user) => hasRoles ? TestRoles.As(user, connectionString) : connectionString;
    }

    // Of the application: it enqueues and runs jobs (TestRoles).
    public string ConnectionString { get; }

    public NpgsqlDataSource DataSource { get; }

    public NpgsqlDataSource Enqueuer => enqueuer.Value;

    public NpgsqlDataSource Inspector => inspector.Value;

    public NpgsqlDataSource Operator => operators.Value;

    // Of the test itself, which may do everything.
    public string AdminConnectionString { get; }

    public NpgsqlDataSource Admin { get; }

    public string Name => new NpgsqlConnectionStringBuilder(ConnectionString).Database!;

    public static async Task<ScratchDatabase> EmptyAsync() => await CreateAsync("template1", hasRoles: false);

    // Prepares: for a test that asks the same thousands of times; most of such a statement's time is its plan's.
    public static async Task<ScratchDatabase> MigratedAsync(bool prepares = false) => await CreateAsync(await Template.Value, hasRoles: true, prepares);

    // On a server of the test's own, with which it ends.
    public static ScratchDatabase On(string adminConnectionString, string connectionString) => new(adminConnectionString, hasRoles: false, connectionString);

    public async Task ExecuteAsync(string sql)
    {
        await using var command = Admin.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
    }

    public async Task<T> ScalarAsync<T>(string sql)
    {
        await using var command = Admin.CreateCommand(sql);
        var value = await command.ExecuteScalarAsync(TestContext.Current.CancellationToken);
        return value is null or DBNull ? default! : (T)value;
    }

    public async Task<List<string>> TextsAsync(string sql)
    {
        List<string> rows = [];
        await using var command = Admin.CreateCommand(sql);
        await using var reader = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        while (await reader.ReadAsync(TestContext.Current.CancellationToken))
            rows.Add(reader.GetString(0));
        return rows;
    }

    // Holds rows of jobs, as somebody does who has forgotten a transaction, until it is disposed of.
    public async Task<NpgsqlConnection> HoldAsync(string which)
    {
        var connection = await Admin.OpenConnectionAsync();
        await using var hold = new NpgsqlCommand($"BEGIN; SELECT FROM outbox.jobs WHERE {which} FOR UPDATE", connection);
        await hold.ExecuteNonQueryAsync();
        return connection;
    }

    // What psql prints; an error is an exception.
    public async Task<string> PsqlAsync(params string[] arguments)
    {
        var (code, output) = await TryPsqlAsync(arguments);
        return code == 0 ? output : throw new InvalidOperationException($"psql ended with {code}: {output}");
    }

    public async Task<(int Code, string Output)> TryPsqlAsync(params string[] arguments)
    {
        var builder = new NpgsqlConnectionStringBuilder(AdminConnectionString);
        var start = new ProcessStartInfo("psql") { RedirectStandardOutput = true, RedirectStandardError = true };
        string[] all = ["-X", "-h", builder.Host!, "-p", $"{builder.Port}", "-U", builder.Username!, "-d", builder.Database!, "-v", "ON_ERROR_STOP=1", .. arguments];
        foreach (var argument in all)
            start.ArgumentList.Add(argument);
        if (builder.Password is { } password)
            start.Environment["PGPASSWORD"] = password;
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var errors = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output + await errors);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var source in new[] { Admin, DataSource }.Concat(new[] { enqueuer, inspector, operators }.Where(each => each.IsValueCreated).Select(each => each.Value)))
            await source.DisposeAsync();
        if (isOurs)
            await (await TestServer.GetAsync()).DropDatabaseAsync(AdminConnectionString);
    }

    private static async Task<string> MakeTemplateAsync()
    {
        var database = await CreateAsync("template1", hasRoles: true);
        await TestRoles.MigrateAsync(database.AdminConnectionString);
        NpgsqlConnection.ClearAllPools();
        await database.Admin.DisposeAsync();
        return database.Name;
    }

    private static async Task<ScratchDatabase> CreateAsync(string template, bool hasRoles, bool prepares = false)
    {
        var connectionString = await (await TestServer.GetAsync()).CreateDatabaseAsync(template, TestContext.Current.CancellationToken);
        var options = new NpgsqlConnectionStringBuilder(connectionString) { MaxPoolSize = 40, IncludeErrorDetail = true, MaxAutoPrepare = prepares ? 200 : 0, AutoPrepareMinUsages = 2 };
        return new(options.ConnectionString, hasRoles);
    }
}
