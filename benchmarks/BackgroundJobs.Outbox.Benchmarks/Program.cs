using System.CommandLine;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Report;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using BackgroundJobs.Outbox.Benchmarks.Scenarios;

IScenario[] scenarios =
[
    new DrainScenario(), new SlowPeersScenario(), new CompleteWithScenario(), new FleetScenario(), new LatencyScenario(), new SaveScenario(), new WritersScenario(),
    new BulkScenario(), new PinnedScenario(), new BacklogScenario(), new LateCommitScenario(), new InspectionScenario(), new RetentionScenario(), new MemoryScenario(),
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
RootCommand command = new("Measures BackgroundJobs.Outbox against its floor and its peers, on a PostgreSQL of its own.") { names, json, rounds, scale };
command.SetAction(async parsed =>
{
    var wanted = parsed.GetRequiredValue(names);
    if (wanted.Except(scenarios.Select(each => each.Name).Append("all")).FirstOrDefault() is { } unknown)
    {
        Console.Error.WriteLine($"There is no scenario '{unknown}'. There are: all, {string.Join(", ", scenarios.Select(each => each.Name))}.");
        return 2;
    }

    await using var bench = await Bench.StartAsync(parsed.GetRequiredValue(rounds), parsed.GetRequiredValue(scale));
    Bench.Say($"{bench.Server}");
    List<Row> rows = [];
    foreach (var scenario in scenarios.Where(each => wanted.Contains("all") || wanted.Contains(each.Name)))
    {
        Bench.Say($"— {scenario.Name}");
        rows.AddRange(await scenario.RunAsync(bench));
    }

    Table.Print(rows);
    if (parsed.GetValue(json) is { } file)
        await Table.WriteJsonAsync(file, rows);
    return 0;
});
return await command.Parse(args).InvokeAsync();
