using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// Sixteen writers that commit as fast as they can, each time an entity and a job; against the same row in a plain table.
internal sealed class WritersScenario : IScenario
{
    private const int Writers = 16;

    public string Name => "writers";

    public string Title => "Concurrent writers";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        Samples jobs = new(), plain = new();
        await using var database = await bench.CopyAsync(await LatencyScenario.TemplateAsync(bench));
        var time = bench.Scaled(TimeSpan.FromSeconds(5));
        await RateAsync(database.ConnectionString, true, time);
        await RateAsync(database.ConnectionString, false, time);
        for (var round = 0; round < 3 * bench.Rounds; round++)
        {
            jobs.Add(await RateAsync(database.ConnectionString, true, time));
            plain.Add(await RateAsync(database.ConnectionString, false, time));
            Bench.Say($"round {round + 1}: {jobs.Last:N0} commits/s, plain table {plain.Last:N0}");
        }

        return [Row.AtLeast("commits of 16 writers that each enqueue", jobs, "commits/s", "the same row in a plain table", plain, 0.97)];
    }

    private static async Task<double> RateAsync(string connection, bool job, TimeSpan time)
    {
        var watch = Stopwatch.StartNew();
        var commits = await Task.WhenAll(Enumerable.Range(0, Writers).Select(writer => Task.Run(async () =>
        {
            var count = 0;
            for (; watch.Elapsed < time; count++)
            {
                await using var db = BenchDb.Open(connection, outbox: job);
                db.Add(new BenchDb.Thing { Name = "a" });
                if (job)
                    db.Enqueue(new Noop(count));
                else
                    db.Add(new BenchDb.PlainJob());
                await db.SaveChangesAsync();
            }

            return count;
        })));
        return commits.Sum() / watch.Elapsed.TotalSeconds;
    }
}
