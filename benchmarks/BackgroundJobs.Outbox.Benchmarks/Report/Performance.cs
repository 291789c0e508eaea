using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using BackgroundJobs.Outbox.Benchmarks.Harness;

namespace BackgroundJobs.Outbox.Benchmarks.Report;

// docs/performance.md and its charts, from one run.
internal static class Performance
{
    public static async Task WriteAsync(Bench bench, IReadOnlyList<(IScenario Scenario, IReadOnlyList<Row> Rows)> results, string folder)
    {
        var charts = Path.Combine(folder, "performance");
        Directory.CreateDirectory(charts);
        foreach (var chart in bench.Charts)
            await ChartFile.WriteAsync(chart, Path.Combine(charts, chart.Name + ".svg"));
        await File.WriteAllTextAsync(Path.Combine(folder, "performance.md"), Text(bench, results));
    }

    private static string Text(Bench bench, IReadOnlyList<(IScenario Scenario, IReadOnlyList<Row> Rows)> results)
    {
        var rows = results.SelectMany(each => each.Rows).ToList();
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"""
            # Performance

            Written by one run of `dotnet run -c Release --project benchmarks/BackgroundJobs.Outbox.Benchmarks -- all`, which measured everything here in
            turn; [benchmarks/README.md](../benchmarks/README.md) says how. The machine was shared: read the ratios, each the median of those of {bench.Rounds}
            rounds in which both were measured, not the figures.

            {rows.Count(row => row.Met == true)} of {rows.Count(row => row.Met is not null)} bars are met. What was tried where one is missed: [decision 5](decisions/0005-what-the-drain-is-made-of.md).

            | | |
            |---|---|
            | date | {TimeProvider.System.GetUtcNow():yyyy-MM-dd} |
            | machine | {Machine()} |
            | system | {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription} |
            | server | {bench.Server}; fsync, full_page_writes and synchronous_commit on |
            | not PostgreSQL's defaults | {string.Join(", ", Bench.Settings.Select(each => $"{each.Key} = {each.Value}"))} |
            | not this library's defaults | none, but where a line says so: the kind that keeps no history, 10 slots for `CompleteWith` |
            | peers | {string.Join(", ", bench.PeerVersions())} |

            """);
        foreach (var (scenario, measured) in results)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n## {scenario.Title}\n\n");
            text.Append("| | median | min to max | against | its median | ratio | bar | met |\n|---|---|---|---|---|---|---|---|\n");
            foreach (var row in measured)
            {
                var spread = row.Min.Equals(row.Max) ? "" : $"{Table.Number(row.Min)} to {Table.Number(row.Max)}";
                var ratio = row.Ratio?.ToString("0.00", CultureInfo.InvariantCulture);
                var met = row.Met switch { true => "yes", false => "**no**", null => "" };
                text.Append(CultureInfo.InvariantCulture, $"| {row.Scenario} | {Table.Number(row.Value)} {row.Unit} | {spread} | {row.Against} | {Table.Number(row.AgainstValue)} | {ratio} | {row.Bar} | {met} |\n");
            }

            foreach (var chart in bench.Charts.Where(chart => chart.Name == scenario.Name))
                text.Append(CultureInfo.InvariantCulture, $"\n![{chart.Title}](performance/{chart.Name}.svg)\n");
        }

        return text.ToString();
    }

    private static string Machine()
    {
        var memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1024.0 / 1024 / 1024;
        var processor = File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[^1].Trim()
            : null;
        return string.Create(CultureInfo.InvariantCulture, $"{processor ?? RuntimeInformation.ProcessArchitecture.ToString()}, {Environment.ProcessorCount} cores for clients and server together, {memory:F0} GiB");
    }
}
