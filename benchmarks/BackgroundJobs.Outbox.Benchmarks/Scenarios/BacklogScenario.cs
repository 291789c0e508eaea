using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// Is the queue as fast when much is in it: ten million ready jobs, a million future ones, jobs of a kind that nobody here knows.
internal sealed class BacklogScenario : IScenario
{
    private const int Few = 10_000;

    public string Name => "backlog";

    public string Title => "A long queue, and obstacles in front of it";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var many = bench.Scaled(10_000_000);
        var handled = bench.Scaled(200_000);
        var (future, unknown) = (bench.Scaled(1_000_000), bench.Scaled(100_000));
        var few = await bench.PreloadedAsync(Few);
        var plain = await bench.PreloadedAsync(2 * handled);
        var obstacles = await bench.TemplateAsync("obstacles", async connection =>
        {
            await Migrator.MigrateAsync(connection);
            await Bench.PreloadAsync(connection, unknown, "now() - interval '1 hour' + n * interval '1 microsecond'", kind: "unknown");
            await Bench.PreloadAsync(connection, future, "now() + interval '1 day' + n * interval '1 microsecond'");
            await Bench.PreloadAsync(connection, 2 * handled);
        });
        var full = await bench.TemplateAsync($"{many} jobs", async connection =>
        {
            await Migrator.MigrateAsync(connection);
            for (var left = many; left > 0; left -= 1_000_000)
                await Bench.PreloadAsync(connection, Math.Min(left, 1_000_000), $"now() - interval '1 minute' + ({many - left} + n) * interval '1 microsecond'");
        });

        Samples ofFew = new(), ofMany = new(), warmPlain = new(), warmMany = new(), warmObstacles = new();
        await using var manyDatabase = await bench.CopyAsync(full);
        await bench.DropTemplateAsync($"{many} jobs");
        for (var round = 0; round < bench.Rounds; round++)
        {
            ofFew.Add(Few / await FirstAsync(bench, few, Few));
            ofMany.Add(Few / await FirstAsync(manyDatabase.ConnectionString, 0, Few));
            warmPlain.Add(handled / await FirstAsync(bench, plain, handled, handled));
            warmMany.Add(handled / await FirstAsync(manyDatabase.ConnectionString, handled, handled));
            warmObstacles.Add(handled / await FirstAsync(bench, obstacles, handled, handled));
            Bench.Say($"round {round + 1}: first 10,000 of 10,000: {ofFew.Last:N0}, of {many:N0}: {ofMany.Last:N0}; warm: {warmPlain.Last:N0}, of {many:N0}: {warmMany.Last:N0}, behind obstacles: {warmObstacles.Last:N0} jobs/s");
        }

        await bench.DropTemplateAsync("obstacles");
        return
        [
            Row.AtLeast("the first 10,000 of 10,000,000 ready jobs, cold process", ofMany, "jobs/s", "10,000 of 10,000", ofFew, 0.9),
            Row.AtLeast("200,000 of 10,000,000 ready jobs", warmMany, "jobs/s", "200,000 of 200,000", warmPlain, 0.9),
            Row.AtLeast("behind 1,000,000 future jobs and 100,000 of an unknown kind", warmObstacles, "jobs/s", "without them", warmPlain, 0.9),
        ];
    }

    private static async Task<double> FirstAsync(Bench bench, string template, int jobs, int warmUp = 0)
    {
        await using var database = await bench.CopyAsync(template);
        return await FirstAsync(database.ConnectionString, warmUp, jobs);
    }

    private static async Task<double> FirstAsync(string connection, int warmUp, int jobs)
    {
        using var child = Child.Role("drain-first", connection, warmUp, jobs);
        var seconds = DrainScenario.Seconds(await child.AnswerAsync(TimeSpan.FromMinutes(5)));

        // It was killed: without this its rescue, which reads the whole table, would fall into the next measurement.
        await Bench.ExecuteAsync(connection, "UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL WHERE lease_token IS NOT NULL; DELETE FROM outbox.workers; CHECKPOINT");
        return seconds;
    }
}
