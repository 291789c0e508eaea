using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// An EF handler with one INSERT of its own and CompleteWith, against an EF loop that does the same INSERT and a DELETE by hand.
internal sealed class CompleteWithScenario : IScenario
{
    public string Name => "complete-with";

    public string Title => "Completion in the handler's own transaction";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = bench.Scaled(10_000);
        var template = await bench.TemplateAsync($"application with {2 * jobs} jobs", async connection =>
        {
            await Migrator.MigrateAsync(connection);
            await Bench.ExecuteAsync(connection, Roles.BenchDb.Tables);
            await Bench.PreloadAsync(connection, 2 * jobs);
            await Bench.ExecuteAsync(connection, "INSERT INTO plain_jobs SELECT * FROM outbox.jobs");
        });
        Samples ours = new(), floor = new();
        for (var round = 0; round < bench.Rounds; round++)
        {
            ours.Add(jobs / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, template, "complete-with", jobs, jobs)));
            floor.Add(jobs / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, template, "complete-floor", jobs, jobs)));
            Bench.Say($"round {round + 1}: {ours.Last:N0} jobs/s, by hand {floor.Last:N0}");
        }

        await bench.DropTemplateAsync($"application with {2 * jobs} jobs");
        return [Row.AtLeast("drain with CompleteWith(db)", ours, "jobs/s", "INSERT and DELETE by hand in EF, same parallelism", floor, 0.8)];
    }
}
