using BackgroundJobs.Outbox.Benchmarks.Harness;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// What one job costs in the process, without a database.
internal sealed class HotPathScenario : IScenario
{
    public string Name => "hot-paths";

    public string Title => "In the process, without a database";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        using var child = Child.Role("hot-paths", "");
        var answer = await child.AnswerAsync(TimeSpan.FromMinutes(5));
        List<Row> rows = [];
        foreach (var path in answer.EnumerateObject())
        {
            rows.Add(Row.Shown(path.Name, new Samples(path.Value[0].GetDouble()), "ns"));
            rows.Add(Row.Shown($"{path.Name}: allocated", new Samples(path.Value[1].GetDouble()), "bytes"));
        }

        return rows;
    }
}
