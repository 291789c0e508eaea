using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// From the commit of a small tenant's job to its start, while the jobs of a large one, of 2 ms each, wait by the million and keep all slots busy.
internal sealed class FairnessScenario : IScenario
{
    private const int Jobs = 200;
    private const int Work = 2;

    public string Name => "fairness";

    public string Title => "A small tenant beside a large one";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var large = bench.Scaled(1_000_000);
        Samples alone50 = new(), alone99 = new(), beside50 = new(), beside99 = new();
        var alone = await TemplateAsync(bench, 0);
        var beside = await TemplateAsync(bench, large);
        for (var round = 0; round < bench.Rounds; round++)
        {
            await MeasureAsync(bench, alone, alone50, alone99);
            await MeasureAsync(bench, beside, beside50, beside99);
            Bench.Say($"round {round + 1}: p50/p99 alone {alone50.Last:F2}/{alone99.Last:F2}, beside {beside50.Last:F2}/{beside99.Last:F2} ms");
        }

        return
        [
            Row.Shown($"small tenant beside {large:N0} jobs of a large one, p50", beside50, "ms", "without the large one", alone50),
            Row.Shown($"small tenant beside {large:N0} jobs of a large one, p99", beside99, "ms", "without the large one", alone99),
        ];
    }

    private static async Task MeasureAsync(Bench bench, string template, Samples p50, Samples p99)
    {
        await using var database = await bench.CopyAsync(template);
        using var worker = Child.Role("serve", database.ConnectionString, 2 * Jobs, 3, Work);
        await LatencyScenario.MeasureAsync(worker, stop: true, p50, p99, async n =>
        {
            await using var db = BenchDb.Open(database.ConnectionString);
            db.Add(new BenchDb.Thing { Name = "a" });
            db.Enqueue(new Noop(n), new() { Group = "small" });
            await db.SaveChangesAsync();
        });
    }

    private static Task<string> TemplateAsync(Bench bench, int large) => bench.TemplateAsync($"a queue in turns, {large} jobs of a large tenant", async connection =>
    {
        await Migrator.MigrateAsync(connection);
        await Bench.ExecuteAsync(connection, BenchDb.Tables + "INSERT INTO outbox.queues (name, limited) VALUES ('default', true)");
        await LimitsScenario.FillAsync(connection, large, "'large'", firstId: Jobs * 2);
    });
}
