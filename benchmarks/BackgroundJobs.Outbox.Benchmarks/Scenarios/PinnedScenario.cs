using System.Data;
using System.Text.Json;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using Dapper;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// Another session holds a snapshot, so that nothing can be vacuumed, while jobs are enqueued and run in rounds of 2,000 for ten minutes.
internal sealed class PinnedScenario : IScenario
{
    private const int Round = 2000;

    public string Name => "pinned";

    public string Title => "While another session holds a snapshot";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var seconds = Math.Max(30, (int)bench.Scaled(TimeSpan.FromMinutes(10)).TotalSeconds);
        var ours = await OursAsync(bench, seconds);
        var perMinute = Math.Min(6, ours.Length / 3);
        List<Row> rows =
        [
            Row.AtLeast("pinned snapshot, the last minute", Rate(ours[^perMinute..]), "jobs/s", $"the first minute of {seconds} s", Rate(ours[..perMinute]), 0.9),
        ];
        List<(string, double[])> lines = [("Outbox", ours)];
        if (await bench.NodePeerAsync("graphile-worker") is { } folder)
        {
            await using var database = await bench.CopyAsync(await bench.TemplateAsync("empty", _ => Task.CompletedTask));
            await using var pin = await PinAsync(database.ConnectionString);
            using var child = Child.Node(folder, database.ConnectionString, "sustain", Math.Min(seconds, 120), Round);
            var theirs = Tens(await child.AnswerAsync(TimeSpan.FromMinutes(6)));
            theirs = theirs[..Math.Min(theirs.Length, Math.Min(seconds, 120) / 10)];
            rows.Add(Row.Shown("graphile-worker, pinned snapshot, the last 10 s", Rate(theirs[^1..]), "jobs/s", $"its first 10 s of {theirs.Length * 10} s", Rate(theirs[..1])));
            lines.Add(("graphile-worker", theirs));
        }

        bench.Charts.Add(new(Name, "Jobs per second while another session holds a snapshot", "jobs/s", lines, Step: 10));

        return rows;
    }

    private static async Task<double[]> OursAsync(Bench bench, int seconds)
    {
        await using var database = await bench.CopyAsync(await bench.MigratedAsync());
        await using var pin = await PinAsync(database.ConnectionString);
        using var child = Child.Role("sustain", database.ConnectionString, seconds, Round);
        return Tens(await child.AnswerAsync(TimeSpan.FromSeconds(seconds + 120)));
    }

    private static async Task<NpgsqlConnection> PinAsync(string connectionString)
    {
        NpgsqlConnection connection = new(connectionString);
        await connection.OpenAsync();
        await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead);
        await connection.ExecuteAsync("SELECT txid_current()");
        return connection;
    }

    // Jobs per second in each ten seconds.
    private static double[] Tens(JsonElement answer) => [.. answer.GetProperty("done").EnumerateArray().Select(each => each.GetDouble() / 10)];

    private static Samples Rate(double[] tens) => new(tens.Average());
}
