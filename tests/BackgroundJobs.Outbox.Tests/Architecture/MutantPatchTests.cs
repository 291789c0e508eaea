using System.Diagnostics;
using System.Globalization;
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

    // Of a routine that a later migration has replaced nothing would be broken, and the mutant would survive.
    [Fact]
    public void Each_that_breaks_a_routine_breaks_the_one_in_use()
    {
        var migrations = Directory.EnumerateFiles(Repository.PathOf("migrations"), "0*.sql").Order(StringComparer.Ordinal).ToList();
        var broken = 0;
        foreach (var name in Patches.Select(each => (string)each))
        {
            var hunk = Hunk().Match(File.ReadAllText(Repository.PathOf("tests", "mutants", name + ".patch")));
            if (!hunk.Success)
                continue;
            var file = migrations.Single(each => Path.GetFileName(each) == hunk.Groups["file"].Value);
            var before = string.Join('\n', File.ReadLines(file).Take(int.Parse(hunk.Groups["line"].Value, CultureInfo.InvariantCulture) + hunk.Groups["same"].Value.Count(each => each == '\n')));
            if (Routine().Matches(before).LastOrDefault() is not { } routine || before.IndexOf("\n$$;", routine.Index, StringComparison.Ordinal) >= 0)
                continue;
            broken++;
            var later = migrations.Where(each => string.CompareOrdinal(each, file) > 0 && Routine().Matches(File.ReadAllText(each)).Any(other => other.Value == routine.Value)).ToList();
            Assert.True(later.Count == 0, $"{name} breaks {routine.Value} as {Path.GetFileName(file)} makes it, and {Path.GetFileName(later.LastOrDefault())} makes it anew.");
        }

        Assert.True(broken > 0);
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

    [GeneratedRegex(@"^\+\+\+ b/migrations/(?<file>\S+)\n@@ -(?<line>\d+)[^\n]*\n(?<same>( [^\n]*\n)*)", RegexOptions.Multiline)]
    private static partial Regex Hunk();

    // Without CREATE, for it may be CREATE OR REPLACE.
    [GeneratedRegex(@"(?<=^CREATE (OR REPLACE )?)(FUNCTION|PROCEDURE) outbox\.\w+", RegexOptions.Multiline)]
    private static partial Regex Routine();

    [GeneratedRegex("""^What: +(?<what>.+)$""", RegexOptions.Multiline)]
    private static partial Regex What();

    [GeneratedRegex("""^Killed by: \*(?<class>\w+)\.(?<method>\w+)\*?$""", RegexOptions.Multiline)]
    private static partial Regex Killer();

    [GeneratedRegex("""^\| (?<id>M[0-9]{2}) \| (?<what>[^|]+) \| \[(?<class>\w+)\.""", RegexOptions.Multiline)]
    private static partial Regex Listed();
}
