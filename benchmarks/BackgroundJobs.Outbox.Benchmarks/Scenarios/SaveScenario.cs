using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Peers;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using Hangfire;
using Microsoft.EntityFrameworkCore;
using Quartz;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// What a job adds to SaveChanges. The variants take turns save by save, so that what the disk does falls on all of them, and in another order
// each time, so that none always follows the same one (after a job, its notification is on its way).
internal sealed class SaveScenario : IScenario
{
    private const int WarmUp = 4000;

    public string Name => "save";

    public string Title => "SaveChanges of an entity and its job";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        await using var database = await bench.CopyAsync(await LatencyScenario.TemplateAsync(bench));
        await using var peers = await bench.CopyAsync(await bench.TemplateAsync("empty", _ => Task.CompletedTask));
        var connection = database.ConnectionString;
        List<(string Name, Func<int, Task> Save)> variants =
        [
            ("alone", _ => SaveAsync(connection, outbox: false, db => { })),
            ("plain", _ => SaveAsync(connection, outbox: false, db => db.Add(new BenchDb.PlainJob()))),
            ("job", n => SaveAsync(connection, outbox: true, db => db.Enqueue(new Noop(n)))),
            ("late", _ => SaveAsync(connection, outbox: true, (db, thing) => db.Enqueue(() => new NoopOf(thing.Id)))),
            ("late by hand", _ => SaveLateByHandAsync(connection)),
        ];
        IScheduler? quartz = null;
        if (bench.HasPeers)
        {
            var hangfire = new BackgroundJobClient(HangfirePeer.Storage(peers.ConnectionString));
            quartz = await QuartzPeer.SchedulerAsync(peers.ConnectionString);
            variants.Add(("hangfire", async n =>
            {
                await SaveAsync(connection, outbox: false, db => { });
                hangfire.Enqueue(() => HangfirePeer.Work(n));
            }));
            variants.Add(("quartz", async n =>
            {
                await SaveAsync(connection, outbox: false, db => { });
                await QuartzPeer.EnqueueAsync(quartz, n);
            }));
        }

        var times = variants.ToDictionary(each => each.Name, _ => new Samples());
        Random random = new(1);
        var warmUp = bench.Scaled(WarmUp);
        for (var n = 0; n < warmUp + bench.Scaled(2000); n++)
        {
            var turn = variants.ToArray();
            random.Shuffle(turn);
            foreach (var (name, save) in turn)
            {
                var watch = Stopwatch.StartNew();
                await save(n);
                if (n >= warmUp)
                    times[name].Add(watch.Elapsed.TotalMilliseconds);
            }
        }

        if (quartz is not null)
            await quartz.Shutdown();

        // Thousands of pairs: the ratio of the medians is steadier than the median of the ratios.
        List<Row> rows =
        [
            Ratio("save of entity + job", "job", "a second row mapped by hand", "plain", 1.05),
            Ratio("save of entity + job with a late-bound key", "late", "the entity alone", "alone", 1.6),
            Row.Shown("save of entity + job with a late-bound key", Median("late"), "ms", "nextval and both rows by hand", Median("late by hand")),
            Row.Shown("save of entity + job", Median("job"), "ms", "the entity alone", Median("alone")),
        ];
        if (bench.HasPeers)
        {
            rows.Add(Row.Shown("save of entity, then Hangfire's Enqueue (not atomic)", Median("hangfire"), "ms", "the entity alone", Median("alone")));
            rows.Add(Row.Shown("save of entity, then Quartz's ScheduleJob (not atomic)", Median("quartz"), "ms", "the entity alone", Median("alone")));
        }

        bench.Charts.Add(new(Name, "A save, median", "ms", [.. variants.Select(each => (Label(each.Name), new[] { times[each.Name].Median }))]));
        return rows;

        static string Label(string name) => name switch
        {
            "alone" => "the entity alone",
            "plain" => "and a row mapped by hand",
            "job" => "and a job",
            "late" => "and a job with its key",
            "late by hand" => "nextval, and both rows by hand",
            "hangfire" => "then Hangfire",
            _ => "then Quartz",
        };

        Samples Median(string name) => new(times[name].Median);
        Row Ratio(string scenario, string name, string against, string other, double bar) => Row.AtMost(scenario, Median(name), "ms", against, Median(other), bar);
    }

    // What a late-bound key takes, whoever does it: the key from the sequence, then both rows.
    private static async Task SaveLateByHandAsync(string connection)
    {
        await using var db = BenchDb.Open(connection, outbox: false);
        var id = await db.Database.SqlQueryRaw<long>("SELECT nextval('things_id_seq') AS \"Value\"").SingleAsync();
        db.Add(new BenchDb.Thing { Id = id, Name = "a" });
        db.Add(new BenchDb.PlainJob { Args = $$"""{"id": {{id}}}""" });
        await db.SaveChangesAsync();
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
