using System.Reflection;
using System.Text.RegularExpressions;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.Tests.Architecture;

// The rules of the style sheet that a program can check.
public sealed partial class SourceRulesTests
{
    private const int MostLines = 250;

    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void No_file_is_longer_than_a_reader_can_keep_in_mind(string package) =>
        Assert.Empty(Packages.Sources(package).Where(path => File.ReadLines(path).Count() > MostLines).Select(Path.GetFileName));

    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void Public_types_are_sealed_and_live_in_the_namespace_of_their_project(string package)
    {
        foreach (var type in Assembly.Load(package).GetExportedTypes())
        {
            Assert.True(type.IsSealed || type.IsInterface || type.IsAbstract || type.Name == "OutboxException", $"{type} is not sealed.");
            // Extensions alone live where their user looks for them.
            if (!type.Name.EndsWith("Extensions", StringComparison.Ordinal))
                Assert.True(type.Namespace == package, $"{type} is not in the namespace of its project.");
        }
    }

    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void A_public_type_has_a_file_of_its_own_name(string package)
    {
        var files = Packages.Sources(package).Select(path => Path.GetFileNameWithoutExtension(path)!.Split('.')[0]).ToHashSet();
        foreach (var type in Assembly.Load(package).GetExportedTypes().Where(type => !type.IsNested))
            Assert.Contains(type.Name.Split('`')[0], files);
    }

    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void Names_say_what_a_type_does(string package) => Assert.DoesNotContain(
        Assembly.Load(package).GetTypes(), type => EmptyWord().IsMatch(type.Name));

    [Fault("X05", "SQL put together from values", "there is none: every statement is a file, every value a parameter")]
    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void Sql_stands_in_sql_files_only(string package)
    {
        foreach (var path in Packages.Sources(package))
        {
            var strings = string.Join('\n', File.ReadLines(path).Where(line => !line.TrimStart().StartsWith("//", StringComparison.Ordinal)));
            var found = Statement().Match(strings);
            Assert.False(found.Success, $"{Path.GetFileName(path)} holds SQL: {found.Value}. Move it to a file under Sql/.");
        }
    }

    [Theory]
    [InlineData("var sql = \"SELECT id FROM outbox.jobs\";")]
    [InlineData("var sql = $\"delete from {table}\";")]
    [InlineData("    UPDATE outbox.jobs\n    SET run_at = now()")]
    [InlineData("\"CREATE TABLE a (id int)\"")]
    [InlineData("\"LISTEN outbox_jobs\"")]
    public void The_search_for_sql_finds_it(string code) => Assert.Matches(Statement(), code);

    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void Nothing_names_the_machine_it_was_written_on(string package)
    {
        foreach (var path in Packages.Sources(package))
            Assert.DoesNotMatch("\"/(work|root|home)/", File.ReadAllText(path));
        Assert.True(File.Exists(Repository.PathOf("src", package, package + ".csproj")));
    }

    [GeneratedRegex("(Manager|Helper|Util|Utils|Common|Misc)$")]
    private static partial Regex EmptyWord();

    // CREATE DATABASE is let through: it takes no parameters, and is about no table of ours.
    [GeneratedRegex(
        """
        (?:^|["\n])\s*(SELECT\s+[\w*('"]|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|(CREATE|ALTER|DROP)\s+(TABLE|SCHEMA|INDEX|ROLE|FUNCTION)\s|(UN)?LISTEN\s+\w|NOTIFY\s+\w|SET\s+LOCAL\s|WITH\s+\w+\s+AS\s)
        """,
        RegexOptions.IgnoreCase)]
    private static partial Regex Statement();
}
