using System.Diagnostics;
using System.Text.RegularExpressions;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.Tests.Architecture;

// tests/mutants.sh takes long and runs by hand; what would keep it from running is noticed here.
public sealed partial class MutantPatchTests
{
    private static readonly string Page = Repository.PathOf("docs", "reliability.md");

    public static TheoryData<string> Patches => [.. Directory.EnumerateFiles(Repository.PathOf("tests", "mutants"), "*.patch").Select(file => Path.GetFileNameWithoutExtension(file)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Patches))]
    public async Task A_mutant_can_be_made_and_the_test_that_kills_it_exists(string name)
    {
        var patch = Repository.PathOf("tests", "mutants", name + ".patch");
        var start = new ProcessStartInfo("git", ["apply", "--check", patch]) { WorkingDirectory = Repository.Root, RedirectStandardError = true };
        using var git = Process.Start(start)!;
        var said = await git.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await git.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(git.ExitCode == 0, $"{name} does not apply any more: {said}");

        var killer = Killer().Match(await File.ReadAllTextAsync(patch, TestContext.Current.CancellationToken));
        var sources = Directory.EnumerateFiles(Repository.PathOf("tests", "BackgroundJobs.Outbox.PostgresTests"), killer.Groups["class"].Value + ".cs", SearchOption.AllDirectories);
        Assert.Contains(sources, file => File.ReadAllText(file).Contains($" {killer.Groups["method"].Value}", StringComparison.Ordinal));
    }

    [Fact]
    public void Each_stands_in_the_list_with_its_test()
    {
        var listed = Listed().Matches(File.ReadAllText(Page)).Select(each => (each.Groups["id"].Value, each.Groups["what"].Value, each.Groups["class"].Value)).ToList();
        var patches = Patches.Select(each => (string)each).Select(name =>
        {
            var text = File.ReadAllText(Repository.PathOf("tests", "mutants", name + ".patch"));
            return (name, What().Match(text).Groups["what"].Value, Killer().Match(text).Groups["class"].Value);
        });
        Assert.Equal(patches, listed);
    }

    [GeneratedRegex("""^What: +(?<what>.+)$""", RegexOptions.Multiline)]
    private static partial Regex What();

    [GeneratedRegex("""^Killed by: \*(?<class>\w+)\.(?<method>\w+)\*?$""", RegexOptions.Multiline)]
    private static partial Regex Killer();

    [GeneratedRegex("""^\| (?<id>M[0-9]{2}) \| (?<what>[^|]+) \| \[(?<class>\w+)\.""", RegexOptions.Multiline)]
    private static partial Regex Listed();
}
