using System.Text;
using System.Text.RegularExpressions;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

public sealed partial class ReadmeTests
{
    [Fact]
    public async Task The_readmes_example_runs()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        using var host = ReadmeExample.Build(database.ConnectionString);
        await using var scope = host.Services.CreateAsyncScope();
        var db = scope.ServiceProvider.GetRequiredService<ReadmeExample.AppDb>();
        await db.GetService<IRelationalDatabaseCreator>().CreateTablesAsync(TestContext.Current.CancellationToken);
        await host.StartAsync(TestContext.Current.CancellationToken);
        var id = await ReadmeExample.SaveAsync(db);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<bool>($"""SELECT "Booted" FROM "Servers" WHERE "Id" = {id}"""), "the server is booted");
        await host.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal("completed", await database.ScalarAsync<string>("SELECT state FROM outbox.job_history"));
    }

    [Theory]
    [InlineData("README.md", "ReadmeExample.cs", 10)]
    [InlineData("docs/workflows.md", "WorkflowsExample.cs", 7)]
    [InlineData("docs/limits.md", "LimitsExample.cs", 4)]
    [InlineData("docs/queues.md", "QueuesExample.cs", 2)]
    [InlineData("docs/unique-jobs.md", "UniqueJobsExample.cs", 3)]
    [InlineData("docs/long-jobs.md", "LongJobsExample.cs", 3)]
    [InlineData("docs/schedules.md", "SchedulesExample.cs", 3)]
    public async Task Every_line_of_csharp_in_what_users_read_is_compiled(string document, string example, int count)
    {
        var readme = (await File.ReadAllTextAsync(Repository.PathOf(document.Split('/')), TestContext.Current.CancellationToken)).ReplaceLineEndings("\n");
        var source = (await File.ReadAllTextAsync(
            Repository.PathOf("tests", "BackgroundJobs.Outbox.PostgresTests", "Examples", example), TestContext.Current.CancellationToken)).ReplaceLineEndings("\n");
        var parts = Marked().Matches(source).Select(match => Dedent(match.Groups[1].Value)).ToList();
        List<string> code = [.. Blocks().Matches(readme).Select(match => Dedent(match.Groups[1].Value))];
        Assert.All(parts, part => Assert.Contains(code, block => block.Contains(part, StringComparison.Ordinal)));
        var blocks = code.Select(each => parts.Aggregate(each, (block, part) => block.Replace(part, "", StringComparison.Ordinal))).ToList();
        Assert.Equal(count, blocks.Count);
        Assert.All(blocks, rest => Assert.Equal("", rest.Trim()));
    }

    private static string Dedent(string code)
    {
        var lines = code.TrimEnd().Split('\n');
        var indent = lines[0].Length - lines[0].TrimStart().Length;
        return lines.Aggregate(new StringBuilder(), (text, line) => text.Append(line.Length > indent ? line[indent..] : "").Append('\n')).ToString();
    }

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Blocks();

    [GeneratedRegex(@"// readme:begin\n(.*?)\s*// readme:end", RegexOptions.Singleline)]
    private static partial Regex Marked();
}
