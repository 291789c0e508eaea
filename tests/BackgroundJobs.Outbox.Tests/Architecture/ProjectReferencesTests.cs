using System.Reflection;
using System.Xml.Linq;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.Tests.Architecture;

// The direction of the arrows. This table and the one in the documents are the same; a new project needs a line here.
public sealed class ProjectReferencesTests
{
    private const string Words = "BackgroundJobs.Outbox";
    private const string Ef = "BackgroundJobs.Outbox.EntityFrameworkCore";
    private const string Postgres = "BackgroundJobs.Outbox.Postgres";
    private const string Worker = "BackgroundJobs.Outbox.Worker";
    private const string Testing = "BackgroundJobs.Outbox.Testing";

    // May reference, of ours and of others; must not use, also not through a reference of a reference.
    private static readonly Dictionary<string, (string[] MayReference, string[] MustNotUse)> Table = new()
    {
        [Words] = (
            ["Microsoft.Extensions.DependencyInjection.Abstractions"],
            ["Microsoft.EntityFrameworkCore", "Npgsql", "Dapper", "Microsoft.Extensions.Hosting"]),
        [Ef] = (
            [Words, "Microsoft.EntityFrameworkCore", "Microsoft.EntityFrameworkCore.Relational", "Npgsql.EntityFrameworkCore.PostgreSQL"],
            ["Dapper", Postgres, Worker]),
        [Postgres] = (
            [Words, "Cronos", "Dapper", "Microsoft.Extensions.Logging.Abstractions", "Npgsql"],
            ["Microsoft.EntityFrameworkCore", "Microsoft.Extensions.Hosting", Ef, Worker]),
        [Worker] = (
            [Words, Postgres, "Microsoft.Extensions.Hosting.Abstractions"],
            ["Microsoft.EntityFrameworkCore", "Npgsql.EntityFrameworkCore.PostgreSQL", "Dapper", Ef, Testing]),
        [Testing] = (
            [Ef, Postgres, "Testcontainers.PostgreSql"],
            [Worker]),
    };

    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void A_project_references_only_what_the_table_allows(string package)
    {
        var project = XDocument.Load(Repository.PathOf("src", package, package + ".csproj"));
        var references = project.Descendants()
            .Where(element => element.Name.LocalName is "PackageReference" or "ProjectReference")
            .Select(element => element.Attribute("Include")!.Value)
            .Select(include => include.EndsWith(".csproj", StringComparison.Ordinal) ? Path.GetFileNameWithoutExtension(include.Replace('\\', '/')) : include);
        Assert.True(Table.ContainsKey(package), $"{package} is in no line of the table: say what it may reference.");
        Assert.Empty(references.Except(Table[package].MayReference));
    }

    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void An_assembly_uses_nothing_that_the_table_forbids(string package)
    {
        var used = Assembly.Load(package).GetReferencedAssemblies().Select(name => name.Name!).ToList();
        Assert.Contains("System.Runtime", used);
        foreach (var forbidden in Table[package].MustNotUse)
            Assert.DoesNotContain(used, name => name == forbidden || (!forbidden.StartsWith(Words, StringComparison.Ordinal) && name.StartsWith(forbidden + ".", StringComparison.Ordinal)));
    }
}
