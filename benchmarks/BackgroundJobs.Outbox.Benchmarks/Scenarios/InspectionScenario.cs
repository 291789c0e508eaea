using System.Diagnostics;
using System.Text.Json;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// Every inspection query at 1,000,000 unfinished and 5,000,000 finished jobs, and what all of them every five seconds cost the workers.
internal sealed class InspectionScenario : IScenario
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    public string Name => "inspection";

    public string Title => "Looking while it runs";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = bench.Scaled(1_000_000);
        var template = await FilledAsync(bench);
        List<Row> rows = [];
        await using (var database = await bench.CopyAsync(template))
        {
            await using var source = NpgsqlDataSource.Create(database.ConnectionString);
            foreach (var (name, query) in Queries(new JobInspector(source)))
            {
                Samples times = new();
                for (var round = -1; round < 3 * bench.Rounds; round++)
                {
                    var watch = Stopwatch.StartNew();
                    await query();
                    if (round >= 0)
                        times.Add(watch.Elapsed.TotalMilliseconds);
                }

                rows.Add(Row.Below($"inspection: {name}", times, "ms", 200));
            }
        }

        Samples plain = new(), looked = new();
        for (var round = 0; round < bench.Rounds; round++)
        {
            plain.Add(jobs / 2 / await DrainAsync(bench, template, jobs, look: false));
            looked.Add(jobs / 2 / await DrainAsync(bench, template, jobs, look: true));
            Bench.Say($"round {round + 1}: {plain.Last:N0} jobs/s, while somebody looks {looked.Last:N0}");
        }

        rows.Add(Row.AtLeast("drain while all inspection queries run every 5 s", looked, "jobs/s", "without", plain, 0.95));
        return rows;
    }

    // Also used to drop the finished ones.
    internal static Task<string> FilledAsync(Bench bench) => bench.TemplateAsync("filled", async connection =>
    {
        await Migrator.MigrateAsync(connection);
        await Bench.PreloadAsync(connection, bench.Scaled(1_000_000));
        await Bench.ExecuteAsync(connection, $"""
            INSERT INTO outbox.job_history (id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes, state, queue, kind, args)
            SELECT gen_random_uuid(), now() - ({bench.Scaled(5_000_000)} - n) * interval '100 microseconds', now(), now(), now(), gen_random_uuid(), 1, 2, 20, 0, 0,
                CASE WHEN n % 1000 = 0 THEN 'dead' ELSE 'completed' END, 'default', 'noop', jsonb_build_object('id', n)
            FROM generate_series(1, {bench.Scaled(5_000_000)}) AS n
            """);
    });

    private static (string Name, Func<Task> Query)[] Queries(JobInspector inspector) =>
    [
        ("counts", () => inspector.CountsAsync()),
        ("oldest waiting", () => inspector.OldestWaitingAsync()),
        ("running", () => inspector.RunningAsync()),
        ("dead", () => inspector.DeadAsync()),
        ("retrying", () => inspector.RetryingAsync()),
        ("failing kinds", () => inspector.FailingKindsAsync()),
        ("throughput", () => inspector.ThroughputAsync()),
        ("queues", () => inspector.QueuesAsync()),
        ("workers", () => inspector.WorkersAsync()),
        ("table health", () => inspector.TableHealthAsync()),
    ];

    private static async Task<double> DrainAsync(Bench bench, string template, int jobs, bool look)
    {
        await using var database = await bench.CopyAsync(template);
        await using var source = NpgsqlDataSource.Create(database.ConnectionString);
        using CancellationTokenSource ended = new();
        var looking = look ? LookAsync(new JobInspector(source), ended.Token) : Task.CompletedTask;
        using var child = Child.Role("drain-first", database.ConnectionString, jobs / 2, jobs / 2);
        JsonElement answer = await child.AnswerAsync(TimeSpan.FromMinutes(5));
        await ended.CancelAsync();
        await looking;
        return DrainScenario.Seconds(answer);
    }

    private static async Task LookAsync(JobInspector inspector, CancellationToken ended)
    {
        while (!ended.IsCancellationRequested)
        {
            foreach (var (_, query) in Queries(inspector))
                await query();
            await Task.Delay(Interval, TimeProvider.System, ended).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }
}
