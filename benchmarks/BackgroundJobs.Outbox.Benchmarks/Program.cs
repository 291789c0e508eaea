using System.CommandLine;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Report;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using BackgroundJobs.Outbox.Benchmarks.Scenarios;

const string DidNotRun = "runs";
IScenario[] scenarios =
[
    new DrainScenario(), new SlowPeersScenario(), new CompleteWithScenario(), new FleetScenario(), new LatencyScenario(), new SaveScenario(), new WritersScenario(),
    new HotPathScenario(), new BulkScenario(), new WorkflowScenario(), new LimitsScenario(), new FairnessScenario(), new PinnedScenario(), new BacklogScenario(), new LateCommitScenario(), new InspectionScenario(), new RetentionScenario(), new MemoryScenario(),
    new CountedScenario(),
];

if (args is ["role", var role, .. var rest])
{
    await Role.RunAsync(role, rest);
    return 0;
}

Argument<string[]> names = new("scenario")
{
    Description = $"all, or some of: {string.Join(", ", scenarios.Select(each => each.Name))}.",
    DefaultValueFactory = _ => ["all"],
};
Option<string?> json = new("--json") { Description = "Write the rows to this file as JSON." };
Option<int> rounds = new("--rounds") { Description = "How often each is measured, in turn with what it is compared to.", DefaultValueFactory = _ => 3 };
Option<double> scale = new("--scale") { Description = "Share of the sizes and times that the bar names; a figure for the record has 1.", DefaultValueFactory = _ => 1 };
Option<string?> report = new("--report") { Description = "Write performance.md and its charts to this folder. Default: docs, when everything was measured at full scale." };
Option<bool> shortForm = new("--short") { Description = "Under three minutes: one round at a quarter of the sizes, without the peers; ends with 1 where a bar is missed threefold." };
RootCommand command = new("Measures BackgroundJobs.Outbox against its floor and its peers, on a PostgreSQL of its own.") { names, json, rounds, scale, report, shortForm };
command.SetAction(async parsed =>
{
    var wanted = parsed.GetRequiredValue(names);
    if (wanted.Except(scenarios.Select(each => each.Name).Append("all")).FirstOrDefault() is { } unknown)
    {
        Console.Error.WriteLine($"There is no scenario '{unknown}'. There are: all, {string.Join(", ", scenarios.Select(each => each.Name))}.");
        return 2;
    }

    var isShort = parsed.GetValue(shortForm);
    if (isShort && wanted is ["all"])
        wanted = ["drain", "latency", "save", "writers", "bulk", "inspection"];
    await using var bench = isShort
        ? await Bench.StartAsync(rounds: 1, scale: 0.25, peers: false)
        : await Bench.StartAsync(parsed.GetRequiredValue(rounds), parsed.GetRequiredValue(scale));
    Bench.Say($"{bench.Server}");
    List<(IScenario Scenario, IReadOnlyList<Row> Rows)> results = [];
    foreach (var scenario in scenarios.Where(each => wanted.Contains("all") || wanted.Contains(each.Name)))
    {
        Bench.Say($"— {scenario.Name}");
        results.Add((scenario, await TryAsync(scenario, bench)));
    }

    List<Row> rows = [.. results.SelectMany(each => each.Rows)];
    Table.Print(rows);
    if (parsed.GetValue(json) is { } file)
        await Table.WriteJsonAsync(file, rows);
    var folder = parsed.GetValue(report) ?? (results.Count == scenarios.Length && bench.Scale >= 1 ? Path.Combine(Repository.Root, "docs") : null);
    if (folder is not null)
        await Performance.WriteAsync(bench, results, folder);
    if (rows.Exists(row => row.Bar == DidNotRun))
        return 1;
    if (!isShort || !rows.Exists(row => row.IsGross))
        return 0;
    Console.Error.WriteLine("A bar is missed threefold (see the table). Measure again on a quiet machine; if it stays, the last change made the library slower.");
    return 1;
});
return await command.Parse(args).InvokeAsync();

// One that fails is a missed bar, and the others still run.
static async Task<IReadOnlyList<Row>> TryAsync(IScenario scenario, Bench bench)
{
    try
    {
        return await scenario.RunAsync(bench);
    }
#pragma warning disable CA1031 // Whatever it is, it is told.
    catch (Exception e)
#pragma warning restore CA1031
    {
        Console.Error.WriteLine(e);
        return [new Row($"{scenario.Name} failed: {e.Message.Split('\n')[0]}", 0, "") { Bar = DidNotRun, Met = false }];
    }
}
