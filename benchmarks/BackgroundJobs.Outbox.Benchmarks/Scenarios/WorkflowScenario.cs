using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// One workflow of 100,000 jobs, 1,000 wide: each waits for two of the row before. Against as many jobs that wait for nobody.
internal sealed class WorkflowScenario : IScenario
{
    private const int Width = 1000;

    public string Name => "workflow";

    public string Title => "A workflow of 100,000 jobs";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = Math.Max(bench.Scaled(100_000), 10 * Width);
        var warmUp = jobs / 5;
        Samples enqueued = new(), enqueuedPlain = new(), ran = new(), ranPlain = new();
        var workflow = await bench.TemplateAsync($"workflow of {jobs}", connection => PreloadAsync(connection, jobs, enqueued, isWorkflow: true));
        var plain = await bench.TemplateAsync($"{jobs} by themselves", connection => PreloadAsync(connection, jobs, enqueuedPlain, isWorkflow: false));
        for (var round = 0; round < bench.Rounds; round++)
        {
            ran.Add((jobs - warmUp) / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, workflow, "drain", warmUp, jobs - warmUp, HistoryPolicy.Keep)));
            ranPlain.Add((jobs - warmUp) / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, plain, "drain", warmUp, jobs - warmUp, HistoryPolicy.Keep)));
            Bench.Say($"round {round + 1}: {ran.Last:N0} jobs/s, by themselves {ranPlain.Last:N0}");
        }

        return
        [
            Row.Shown("a workflow of 100,000 jobs, 1,000 wide, two parents each: run", ran, "jobs/s", "as many by themselves", ranPlain),
            Row.Shown("the same: enqueued in one transaction", enqueued, "jobs/s", "as many by themselves", enqueuedPlain),
        ];
    }

    private static async Task PreloadAsync(string connection, int jobs, Samples rate, bool isWorkflow)
    {
        await Migrator.MigrateAsync(connection);
        JobWorkflow flow = new();
        List<WorkflowJob> before = [];
        for (var n = 0; n < jobs; n += Width)
        {
            List<WorkflowJob> row = [];
            for (var at = 0; at < Width; at++)
                row.Add(isWorkflow && n > 0 ? flow.Add(new Noop(n + at), after: [before[at], before[(at + 1) % Width]]) : flow.Add(new Noop(n + at)));
            before = row;
        }

        await using var source = NpgsqlDataSource.Create(connection);
        var watch = Stopwatch.StartNew();
        await new JobQueue(source).EnqueueAsync(isWorkflow ? flow.Jobs : Enumerable.Range(0, jobs).Select(n => NewJob.Create(new Noop(n))));
        rate.Add(jobs / watch.Elapsed.TotalSeconds);
    }
}
