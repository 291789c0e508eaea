using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Peers;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using Hangfire;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// What a job adds to SaveChanges. The variants take turns save by save, so that what the disk does falls on all of them.
internal sealed class SaveScenario : IScenario
{
    private const int WarmUp = 200;

    public string Name => "save";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        await using var database = await bench.CopyAsync(await LatencyScenario.TemplateAsync(bench));
        await using var hangfireDatabase = await bench.CopyAsync(await bench.TemplateAsync("empty", _ => Task.CompletedTask));
        var hangfire = new BackgroundJobClient(HangfirePeer.Storage(hangfireDatabase.ConnectionString));
        var connection = database.ConnectionString;
        (string Name, Func<int, Task> Save)[] variants =
        [
            ("alone", _ => SaveAsync(connection, outbox: false, db => { })),
            ("plain", _ => SaveAsync(connection, outbox: false, db => db.Add(new BenchDb.PlainJob()))),
            ("job", n => SaveAsync(connection, outbox: true, db => db.Enqueue(new Noop(n)))),
            ("late", _ => SaveAsync(connection, outbox: true, (db, thing) => db.Enqueue(() => new NoopOf(thing.Id)))),
            ("hangfire", async n =>
            {
                await SaveAsync(connection, outbox: false, db => { });
                hangfire.Enqueue(() => HangfirePeer.Work(n));
            }),
        ];
        var times = variants.ToDictionary(each => each.Name, _ => new Samples());
        for (var n = 0; n < WarmUp + bench.Scaled(1500); n++)
        {
            for (var at = 0; at < variants.Length; at++)
            {
                var (name, save) = variants[(n + at) % variants.Length];
                var watch = Stopwatch.StartNew();
                await save(n);
                if (n >= WarmUp)
                    times[name].Add(watch.Elapsed.TotalMilliseconds);
            }
        }

        // Thousands of pairs: the ratio of the medians is steadier than the median of the ratios.
        return
        [
            Ratio("save of entity + job", "job", "a second row mapped by hand", "plain", 1.05),
            Ratio("save of entity + job with a late-bound key", "late", "the entity alone", "alone", 1.6),
            Row.Shown("save of entity + job", Median("job"), "ms", "the entity alone", Median("alone")),
            Row.Shown("save of entity, then Hangfire's Enqueue (not atomic)", Median("hangfire"), "ms", "the entity alone", Median("alone")),
        ];

        Samples Median(string name) => new(times[name].Median);
        Row Ratio(string scenario, string name, string against, string other, double bar) => Row.AtMost(scenario, Median(name), "ms", against, Median(other), bar);
    }

    private static Task SaveAsync(string connection, bool outbox, Action<BenchDb> more) => SaveAsync(connection, outbox, (db, _) => more(db));

    private static async Task SaveAsync(string connection, bool outbox, Action<BenchDb, BenchDb.Thing> more)
    {
        await using var db = BenchDb.Open(connection, outbox);
        BenchDb.Thing thing = new() { Name = "a" };
        db.Add(thing);
        more(db, thing);
        await db.SaveChangesAsync();
    }
}
