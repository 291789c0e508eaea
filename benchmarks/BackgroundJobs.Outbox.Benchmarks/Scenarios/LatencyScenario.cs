using System.Text.Json;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// From the return of the commit to the start of the handler in another process: 200 jobs, 20 ms apart, after as many that warm everybody up.
internal sealed class LatencyScenario : IScenario
{
    private const int Jobs = 200;
    private static readonly TimeSpan Gap = TimeSpan.FromMilliseconds(20);

    public string Name => "latency";

    public string Title => "From commit to start";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        Samples ours50 = new(), ours99 = new(), floor50 = new(), floor99 = new(), graphile50 = new(), graphile99 = new(), boss50 = new(), boss99 = new();
        Samples local50 = new(), local99 = new(), claim50 = new(), over = new();
        var template = await TemplateAsync(bench);
        var graphileFolder = await bench.NodePeerAsync("graphile-worker");
        var bossFolder = await bench.NodePeerAsync("pg-boss");
        for (var round = 0; round < bench.Rounds; round++)
        {
            await using (var database = await bench.CopyAsync(template))
            {
                using var worker = Child.Role("serve", database.ConnectionString, 2 * Jobs);
                await MeasureAsync(worker, stop: true, ours50, ours99, async n =>
                {
                    await using var db = BenchDb.Open(database.ConnectionString);
                    db.Add(new BenchDb.Thing { Name = "a" });
                    db.Enqueue(new Noop(n));
                    await db.SaveChangesAsync();
                });
            }

            await using (var database = await bench.CopyAsync(template))
            {
                await using var source = NpgsqlDataSource.Create(database.ConnectionString);
                using var listener = Child.Role("listen-floor", database.ConnectionString, 2 * Jobs);
                await MeasureAsync(listener, stop: true, floor50, floor99, async n =>
                {
                    await using (var insert = source.CreateCommand($"INSERT INTO floor_jobs VALUES ({n}, false)"))
                        await insert.ExecuteNonQueryAsync();
                    _ = NotifyAsync(source);
                });
            }

            if (graphileFolder is not null)
            {
                await using var database = await bench.CopyAsync(await bench.TemplateAsync("graphile-worker", connection => AnswerAsync(graphileFolder, connection, "install")));
                await using var source = NpgsqlDataSource.Create(database.ConnectionString);
                using var worker = Child.Node(graphileFolder, database.ConnectionString, "listen", 2 * Jobs);
                await MeasureAsync(worker, stop: false, graphile50, graphile99, async n =>
                {
                    await using var add = source.CreateCommand($"SELECT graphile_worker.add_job('noop', json_build_object('id', {n}))");
                    await add.ExecuteNonQueryAsync();
                });
            }

            if (bossFolder is not null)
            {
                await using var database = await bench.CopyAsync(await bench.TemplateAsync("empty", _ => Task.CompletedTask));
                using var worker = Child.Node(bossFolder, database.ConnectionString, "listen", 2 * Jobs);
                await worker.Ready;
                using var sender = Child.Node(bossFolder, database.ConnectionString, "enqueue", 2 * Jobs, (int)Gap.TotalMilliseconds);
                var sent = Longs(await sender.AnswerAsync(TimeSpan.FromMinutes(2)), "sent");
                Add(sent, Longs(await worker.AnswerAsync(TimeSpan.FromMinutes(2)), "began"), boss50, boss99);
            }

            await using (var database = await bench.CopyAsync(template))
            {
                using var local = Child.Role("local-latency", database.ConnectionString, Jobs, Jobs);
                var answer = await local.AnswerAsync(TimeSpan.FromMinutes(2));
                local50.Add(answer.GetProperty("p50").GetDouble());
                local99.Add(answer.GetProperty("p99").GetDouble());
                claim50.Add(answer.GetProperty("claimP50").GetDouble());
                over.Add(local50.Last - claim50.Last);
            }

            Bench.Say($"round {round + 1}: p50/p99 ours {ours50.Last:F2}/{ours99.Last:F2}, floor {floor50.Last:F2}/{floor99.Last:F2}, graphile-worker {graphile50.Last:F2}/{graphile99.Last:F2}, pg-boss {boss50.Last:F2}/{boss99.Last:F2}, same process {local50.Last:F2}/{local99.Last:F2} (claim {claim50.Last:F2}) ms");
        }

        List<Row> rows =
        [
            Row.AtMost("latency p50, other process", ours50, "ms", "bare LISTEN, then a bare claim", floor50, 2),
            // Two jobs of a round: too few to fail the short form.
            Row.AtMost("latency p99, other process", ours99, "ms", "bare LISTEN, then a bare claim", floor99, 2) with { IsGross = false },
            Row.Shown("latency p50, same process", local50, "ms", "a bare claim", claim50),
            Row.Below("latency p50, same process, over a bare claim", over, "ms", 1),
        ];
        if (graphileFolder is not null)
        {
            rows.Add(Row.AtMost("latency p50, other process", ours50, "ms", "graphile-worker", graphile50, 1));
            rows.Add(Row.AtMost("latency p99, other process", ours99, "ms", "graphile-worker", graphile99, 1));
        }

        if (bossFolder is not null)
            rows.Add(Row.Shown("latency p50, other process", ours50, "ms", "pg-boss, NOTIFY on", boss50));
        (string Label, Samples Median)[] bars =
        [
            ("Outbox, other process, p50", ours50), ("Outbox, same process, p50", local50), ("bare LISTEN and claim, p50", floor50), ("graphile-worker, p50", graphile50), ("pg-boss, p50", boss50),
            ("Outbox, other process, p99", ours99), ("Outbox, same process, p99", local99), ("bare LISTEN and claim, p99", floor99), ("graphile-worker, p99", graphile99), ("pg-boss, p99", boss99),
        ];
        bench.Charts.Add(new(Name, "From commit to start", "ms", [.. bars.Where(bar => bar.Median.Any).Select(bar => (bar.Label, new[] { bar.Median.Median }))]));
        return rows;
    }

    internal static Task<string> TemplateAsync(Bench bench) => bench.TemplateAsync("application", async connection =>
    {
        await Migrator.MigrateAsync(connection);
        await Bench.ExecuteAsync(connection, BenchDb.Tables + "CREATE TABLE floor_jobs (id integer PRIMARY KEY, claimed boolean NOT NULL); CREATE INDEX ON floor_jobs (id) WHERE NOT claimed;");
    });

    internal static async Task MeasureAsync(Child worker, bool stop, Samples p50, Samples p99, Func<int, Task> enqueue)
    {
        await worker.Ready.WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
        var sent = new long[2 * Jobs];
        for (var n = 0; n < sent.Length; n++)
        {
            await enqueue(n);
            sent[n] = Role.Monotonic;
            await Task.Delay(Gap, TimeProvider.System);
        }

        await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System);
        if (stop)
            worker.Stop();
        Add(sent, Longs(await worker.AnswerAsync(TimeSpan.FromMinutes(1)), "began"), p50, p99);
    }

    private static void Add(long[] sent, long[] began, Samples p50, Samples p99)
    {
        if (began.Any(each => each == 0))
            throw new InvalidOperationException($"{began.Count(each => each == 0)} of {began.Length} jobs never began.");
        Samples latency = new(began.Zip(sent, (at, from) => (at - from) / 1000.0).Skip(Jobs));
        p50.Add(latency.Median);
        p99.Add(latency.Percentile(0.99));
    }

    private static long[] Longs(JsonElement answer, string name) => [.. answer.GetProperty(name).EnumerateArray().Select(each => each.GetInt64())];

    private static async Task NotifyAsync(NpgsqlDataSource source)
    {
        await using var notify = source.CreateCommand("NOTIFY floor");
        await notify.ExecuteNonQueryAsync();
    }

    private static async Task AnswerAsync(string folder, string connection, params object[] arguments)
    {
        using var child = Child.Node(folder, connection, arguments);
        await child.AnswerAsync(TimeSpan.FromMinutes(2));
    }
}
