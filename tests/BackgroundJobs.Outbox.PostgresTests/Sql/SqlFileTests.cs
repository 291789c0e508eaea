using System.Reflection;
using System.Text.RegularExpressions;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Sql;

// SQL is a string to C#: here the server reads every statement, and so checks each name and type in it.
public sealed partial class SqlFileTests(SqlFileTests.Migrated migrated) : IClassFixture<SqlFileTests.Migrated>
{
    // PREPARE takes queries only. MigratorTests run the first, the worker's tests listen and notify, bulk enqueues copy, and handlers complete.
    private static readonly string[] NoQueries = ["sql/apply_migration.sql", "sql/listen.sql", "sql/notify.sql", "sql/notify_jobs.sql", "sql/copy_jobs.sql", "sql/complete_job.sql", "sql/save_step.sql"];

    private static readonly Assembly[] Assemblies = [typeof(JobQueue).Assembly, Assembly.Load("BackgroundJobs.Outbox.EntityFrameworkCore")];

    public static TheoryData<string> Files =>
        [.. Assemblies.SelectMany(assembly => SqlFile.Names(assembly, "sql").Select(name => $"{assembly.GetName().Name}: {name}"))];

    [Theory]
    [MemberData(nameof(Files))]
    public async Task It_prepares_on_a_migrated_database(string file)
    {
        if (NoQueries.Any(file.EndsWith))
            return;
        var text = Read(file).Text;
        await using var connection = await migrated.Database.DataSource.OpenConnectionAsync();
        await using var prepare = new NpgsqlCommand($"PREPARE statement AS {text}", connection);
        await prepare.ExecuteNonQueryAsync();
        await using var drop = new NpgsqlCommand("DEALLOCATE statement", connection);
        await drop.ExecuteNonQueryAsync();
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void It_begins_with_a_reason_is_one_statement_and_lists_its_columns(string file)
    {
        var sql = Read(file);
        Assert.StartsWith("-- ", sql.Named, StringComparison.Ordinal);
        if (!NoQueries.Any(file.EndsWith))
            Assert.DoesNotContain(";", Regex.Replace(sql.Text, "'[^']*'", "''"), StringComparison.Ordinal);
        Assert.DoesNotMatch(@"SELECT \*\s+FROM outbox", sql.Text);
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Its_name_stands_in_the_source_of_its_project(string file)
    {
        var (assembly, name) = (file.Split(": ")[0], Path.GetFileNameWithoutExtension(file));
        var users = Source(assembly).Count(code => code.Contains($"\"{name}\"", StringComparison.Ordinal) || code.Contains($"/{name}.sql", StringComparison.Ordinal));
        Assert.True(users > 0, $"Nothing in src/{assembly} names {name}: use it or delete it.");
    }

    [Fact]
    public void Every_query_of_a_person_is_run_by_a_method_too()
    {
        var inspector = string.Concat(Directory.GetFiles(Repository.PathOf("src", "BackgroundJobs.Outbox.Postgres"), "JobInspector*.cs").Select(File.ReadAllText));
        Assert.All(
            SqlFile.Names(typeof(JobQueue).Assembly, "queries").Select(Path.GetFileNameWithoutExtension),
            name => Assert.Matches($"(\"{name}\"|/{name}\\.sql\", new)", inspector));
    }

    [Fact]
    public void No_two_files_have_the_same_name()
    {
        var files = Directory.GetFiles(Repository.PathOf("src"), "*.sql", SearchOption.AllDirectories)
            .Where(path => !BuildOutput().IsMatch(path))
            .Select(path => Path.GetFileName(path)!)
            .ToList();
        Assert.Equal(files.Distinct().Order(), files.Order());
        Assert.Equal(files.Count, Files.Count);
    }

    private static SqlFile Read(string file)
    {
        var parts = file.Split(": ");
        return SqlFile.Read(Assemblies.Single(each => each.GetName().Name == parts[0]), parts[1], "outbox");
    }

    private static IEnumerable<string> Source(string project) => Directory
        .GetFiles(Repository.PathOf("src", project), "*.cs", SearchOption.AllDirectories)
        .Where(path => !BuildOutput().IsMatch(path))
        .Select(File.ReadAllText);

    [GeneratedRegex(@"[/\\](bin|obj)[/\\]")]
    private static partial Regex BuildOutput();

    public sealed class Migrated : IAsyncLifetime
    {
        internal ScratchDatabase Database { get; private set; } = null!;

        public async ValueTask InitializeAsync() => Database = await ScratchDatabase.MigratedAsync();

        public ValueTask DisposeAsync() => Database.DisposeAsync();
    }
}
