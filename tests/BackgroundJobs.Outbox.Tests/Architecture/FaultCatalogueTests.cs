using System.Globalization;
using System.Text.RegularExpressions;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.Tests.Architecture;

// docs/reliability.md has a table of every fault that is injected, made from what the tests say of themselves.
public sealed partial class FaultCatalogueTests
{
    private const string Begin = "<!-- Made from the tests' Fault attributes by FaultCatalogueTests. -->\n";
    private const string End = "<!-- End of what is made. -->\n";

    private static readonly string Page = Repository.PathOf("docs", "reliability.md");

    // Up to which number each letter's faults go.
    private static readonly (char Letter, int Last)[] Ids = [('E', 32), ('W', 40), ('P', 32), ('D', 17), ('S', 13), ('J', 25), ('X', 20)];

    [Fact]
    public void The_table_is_what_the_tests_say()
    {
        var page = File.ReadAllText(Page).ReplaceLineEndings("\n");
        var begin = page.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length;
        var end = page.IndexOf(End, StringComparison.Ordinal);
        Approved.Verify($"{page[..begin]}\n{Table()}\n{page[end..]}", Page);
    }

    [Fact]
    public void Every_fault_of_the_catalogue_is_injected_or_stands_with_the_reason_why_not()
    {
        var injected = Faults().Select(each => each.Id).ToHashSet();
        var page = File.ReadAllText(Page).ReplaceLineEndings("\n");
        var others = NotInjected().Matches(page[page.IndexOf(End, StringComparison.Ordinal)..]).Select(each => each.Groups["id"].Value).ToList();
        var all = Ids.SelectMany(each => Enumerable.Range(1, each.Last).Select(n => string.Create(CultureInfo.InvariantCulture, $"{each.Letter}{n:00}"))).ToList();
        Assert.Equal(all.Order(), injected.Concat(others).Order());
    }

    private static string Table() => string.Join('\n', Faults()
        .OrderBy(each => "EWPDSX".IndexOf(each.Id[0], StringComparison.Ordinal))
        .ThenBy(each => each.Id, StringComparer.Ordinal)
        .Select(each => $"| {each.Id} | {each.Injected} | {each.Held} | [{each.Class}.{each.Method.Replace('_', ' ')}](../{each.Path}) |")
        .Prepend("|---|---|---|---|")
        .Prepend("| Id | Injected | What holds | Shown by |")) + "\n";

    private static IEnumerable<(string Id, string Injected, string Held, string Class, string Method, string Path)> Faults() =>
        from file in Directory.EnumerateFiles(Repository.PathOf("tests"), "*.cs", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
        where !file.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal)
        let text = File.ReadAllText(file)
        from Match fault in Fault().Matches(text)
        let method = Method().Match(text, fault.Index + fault.Length)
        select (
            fault.Groups["id"].Value,
            fault.Groups["injected"].Value,
            fault.Groups["held"].Value,
            Path.GetFileNameWithoutExtension(file),
            method.Groups["name"].Value,
            Path.GetRelativePath(Repository.Root, file).Replace('\\', '/'));

    [GeneratedRegex("""^ +\[Fault\("(?<id>[A-Z][0-9]{2})", "(?<injected>[^"]+)", "(?<held>[^"]+)"\)\]""", RegexOptions.Multiline)]
    private static partial Regex Fault();

    [GeneratedRegex("""^ +public [^\n(=]*?(?<name>\w+)\(""", RegexOptions.Multiline)]
    private static partial Regex Method();

    [GeneratedRegex("""^\| (?<id>[EWPDSX][0-9]{2}) \| \S""", RegexOptions.Multiline)]
    private static partial Regex NotInjected();
}
