using System.Text.Json;
using BackgroundJobs.Outbox.Benchmarks.Harness;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// One worker process empties a queue of preloaded jobs: 200,000 are timed, and as many before them let the runtimes compile what is hot; the
// same for everybody.
internal sealed class DrainScenario : IScenario
{
    private const int FloorBatch = 1000;
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);

    public string Name => "drain";

    public string Title => "Drain: one worker process empties a queue";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = bench.Scaled(200_000);
        var ours = await bench.PreloadedAsync(2 * jobs);
        Samples keep = new(), none = new(), keepFloor = new(), noneFloor = new(), graphile = new(), boss = new(), bytes = new(), micros = new();
        var graphileFolder = await bench.NodePeerAsync("graphile-worker");
        var bossFolder = await bench.NodePeerAsync("pg-boss");
        var graphileTemplate = graphileFolder is null ? null : await NodeTemplateAsync(bench, "graphile-worker", graphileFolder, jobs);
        var bossTemplate = bossFolder is null ? null : await NodeTemplateAsync(bench, "pg-boss", bossFolder, jobs);

        for (var round = 0; round < bench.Rounds; round++)
        {
            await OursAsync(HistoryPolicy.Keep, keep);
            keepFloor.Add(jobs / Seconds(await RoleAsync(bench, ours, "drain-floor", jobs, HistoryPolicy.Keep, FloorBatch)));
            if (graphileTemplate is not null)
                graphile.Add(jobs / await NodeAsync(bench, graphileFolder!, graphileTemplate, jobs));
            await OursAsync(HistoryPolicy.None, none);
            noneFloor.Add(jobs / Seconds(await RoleAsync(bench, ours, "drain-floor", jobs, HistoryPolicy.None, FloorBatch)));
            if (bossTemplate is not null)
                boss.Add(jobs / await NodeAsync(bench, bossFolder!, bossTemplate, jobs));
            Bench.Say($"round {round + 1}: history {keep.Last:N0} (floor {keepFloor.Last:N0}), none {none.Last:N0} (floor {noneFloor.Last:N0}), graphile-worker {graphile.Last:N0}, pg-boss {boss.Last:N0} jobs/s");
        }

        List<Row> rows =
        [
            Row.AtLeast("drain, history kept, against the floor", keep, "jobs/s", "our SQL in a bare loop", keepFloor, 0.8),
            Row.AtLeast("drain, no history, against the floor", none, "jobs/s", "our SQL in a bare loop", noneFloor, 0.8),
            Row.Below("allocated per job in the run path", bytes, "bytes", 1024),
            Row.Shown("processor time per job in the worker", micros, "µs"),
        ];
        if (graphileTemplate is not null)
        {
            rows.Add(Row.AtLeast("drain, no history, against graphile-worker", none, "jobs/s", "graphile-worker, best setting", graphile, 1.8));
            rows.Add(Row.AtLeast("drain, history kept, against graphile-worker", keep, "jobs/s", "graphile-worker, best setting", graphile, 1.4));
        }

        if (bossTemplate is not null)
            rows.Add(Row.Shown("drain, history kept, against pg-boss", keep, "jobs/s", "pg-boss, batches of 1,000", boss));
        (string Label, Samples Rates)[] bars =
        [
            ("Outbox, history kept", keep), ("Outbox, no history", none), ("floor, history kept", keepFloor), ("floor, no history", noneFloor),
            ("graphile-worker (no history)", graphile), ("pg-boss", boss),
        ];
        bench.Charts.Add(new(Name, "Jobs per second, one worker process", "jobs/s", [.. bars.Where(bar => bar.Rates.Any).Select(bar => (bar.Label, new[] { bar.Rates.Median }))]));
        return rows;

        async Task OursAsync(HistoryPolicy history, Samples rates)
        {
            var answer = await RoleAsync(bench, ours, "drain", jobs, jobs, history);
            rates.Add(jobs / Seconds(answer));
            bytes.Add(answer.GetProperty("bytesPerJob").GetDouble());
            micros.Add(answer.GetProperty("microsecondsPerJob").GetDouble());
        }
    }

    internal static async Task<JsonElement> RoleAsync(Bench bench, string template, string role, params object[] arguments)
    {
        await using var database = await bench.CopyAsync(template);
        using var child = Child.Role(role, database.ConnectionString, arguments);
        return await child.AnswerAsync(Limit);
    }

    internal static double Seconds(JsonElement answer) => answer.GetProperty("seconds").GetDouble();

    private static Task<string> NodeTemplateAsync(Bench bench, string name, string folder, int jobs) => bench.TemplateAsync($"{name} {jobs}", async connection =>
    {
        using var preload = Child.Node(folder, connection, "preload", 2 * jobs);
        await preload.AnswerAsync(Limit);
        await preload.ExitAsync();
    });

    private static async Task<double> NodeAsync(Bench bench, string folder, string template, int jobs)
    {
        await using var database = await bench.CopyAsync(template);
        using var child = Child.Node(folder, database.ConnectionString, "drain", jobs, jobs);
        return Seconds(await child.AnswerAsync(Limit));
    }
}
