using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Harness;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// Five million finished jobs of one day go: the day's partition is dropped. Against a DELETE of the same rows.
internal sealed class RetentionScenario : IScenario
{
    public string Name => "retention";

    public string Title => "Retention";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var template = await InspectionScenario.FilledAsync(bench);
        Samples dropped = new(), deleted = new(), during = new(), plain = new();
        var jobs = bench.Scaled(400_000);
        for (var round = 0; round < bench.Rounds; round++)
        {
            await using (var database = await bench.CopyAsync(template))
            {
                using var drain = Child.Role("drain-first", database.ConnectionString, jobs / 2, jobs);
                await Task.Delay(bench.Scaled(TimeSpan.FromSeconds(6)), TimeProvider.System);
                dropped.Add(await SecondsAsync(database.ConnectionString, DropSql));
                during.Add(jobs / DrainScenario.Seconds(await drain.AnswerAsync(TimeSpan.FromMinutes(5))));
            }

            await using (var database = await bench.CopyAsync(template))
            {
                using var drain = Child.Role("drain-first", database.ConnectionString, jobs / 2, jobs);
                plain.Add(jobs / DrainScenario.Seconds(await drain.AnswerAsync(TimeSpan.FromMinutes(5))));
                deleted.Add(await SecondsAsync(database.ConnectionString, "DELETE FROM outbox.job_history WHERE finished_at < now()"));
            }

            Bench.Say($"round {round + 1}: dropped in {dropped.Last:F2} s, deleted in {deleted.Last:F1} s; drain meanwhile {during.Last:N0}, without {plain.Last:N0} jobs/s");
        }

        return
        [
            Row.Below("retention: a day of 5,000,000 finished jobs dropped", dropped, "s", 1),
            Row.Shown("retention: a day of 5,000,000 finished jobs dropped", dropped, "s", "DELETE of the same rows", deleted),
            Row.AtLeast("drain while a day is dropped", during, "jobs/s", "without", plain, 0.95),
        ];
    }

    // What the maintenance does with a day past the retention; here the day is today, so the history of the jobs that run meanwhile goes to
    // the safety net.
    private const string DropSql = """
        DO $$
        DECLARE day text := 'job_history_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD');
        BEGIN
            EXECUTE format('DROP TABLE outbox.%I', day);
        END $$
        """;

    private static async Task<double> SecondsAsync(string connection, string sql)
    {
        var watch = Stopwatch.StartNew();
        await Bench.ExecuteAsync(connection, sql);
        return watch.Elapsed.TotalSeconds;
    }
}
