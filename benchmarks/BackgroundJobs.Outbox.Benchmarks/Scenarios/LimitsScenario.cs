using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// What limits and groups cost where they keep nothing back, and whether groups that are kept back cost the others anything.
internal sealed class LimitsScenario : IScenario
{
    public string Name => "limits";

    public string Title => "Limits, groups and their turns";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = bench.Scaled(200_000);
        var warmUp = jobs / 2;
        var keys = bench.Scaled(100_000);
        Samples plain = new(), queueLimit = new(), groupLimit = new(), turns = new(), fifo = new(), free = new(), behind = new();
        var without = await bench.PreloadedAsync(jobs + warmUp);
        var cases = new (Samples Rate, string Template)[]
        {
            (plain, without),
            (queueLimit, await GroupedAsync(bench, "a limit of the queue", jobs + warmUp, "NULL", "10000, NULL, 'any'")),
            (groupLimit, await GroupedAsync(bench, "limits of 1,000 groups", jobs + warmUp, "'group ' || n % 1000", "NULL, 1000, 'any'")),
            (turns, await GroupedAsync(bench, "1,000 groups in turn", jobs + warmUp, "'group ' || n % 1000", "NULL, NULL, 'any'")),
            (fifo, await GroupedAsync(bench, $"{keys} groups in order", jobs + warmUp, $"'group ' || n % {keys}", "NULL, NULL, 'fifo'")),
            (free, await GroupedAsync(bench, "100 free groups", jobs + warmUp, "'group ' || n % 100", "NULL, 20, 'any'")),
            (behind, await BlockedAsync(bench, jobs + warmUp, keys)),
        };
        for (var round = 0; round < bench.Rounds; round++)
        {
            foreach (var (rate, template) in cases)
            {
                rate.Add(jobs / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, template, "drain-first", warmUp, jobs)));
                Bench.Say($"{rate.Last:N0}");
            }

            Bench.Say($"round {round + 1}: {string.Join(", ", cases.Select(each => $"{each.Rate.Last:N0}"))} jobs/s");
        }

        return
        [
            Row.AtLeast("a limit of the queue that does not bind", queueLimit, "jobs/s", "no limits", plain, 0.9),
            Row.AtLeast("limits of 1,000 groups that do not bind", groupLimit, "jobs/s", "no limits", plain, 0.9),
            Row.Shown("1,000 groups that take turns", turns, "jobs/s", "no limits", plain),
            Row.Shown("100,000 groups, each in order, two or three jobs of each", fifo, "jobs/s", "no limits", plain),
            Row.AtLeast("100 groups beside 1,000,000 jobs of 100,000 groups that may not start", behind, "jobs/s", "without those", free, 0.9),
        ];
    }

    private static Task<string> GroupedAsync(Bench bench, string name, int jobs, string group, string limits) => bench.TemplateAsync($"{jobs} jobs, {name}", async connection =>
    {
        await Migrator.MigrateAsync(connection);
        await LimitAsync(connection, limits);
        await FillAsync(connection, jobs, group);
    });

    // Of each group the first job runs on a worker that lives, and nine wait.
    private static Task<string> BlockedAsync(Bench bench, int jobs, int keys) => bench.TemplateAsync($"{jobs} jobs beside {keys} groups that may not start", async connection =>
    {
        await Migrator.MigrateAsync(connection);
        await LimitAsync(connection, "NULL, 20, 'any'");
        await FillAsync(connection, 10 * keys, $"'blocked ' || n % {keys}", "now() - interval '1 hour' + n * interval '1 microsecond'");
        await FillAsync(connection, jobs, "'group ' || n % 100");
        await Bench.ExecuteAsync(
            connection,
            $"""
            INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds)
            VALUES ('00000000-0000-4000-8000-000000000001', 'other', 'other', 1, '1', interval '1 day', '[]', ARRAY[]::text[]);
            WITH first AS (
                UPDATE outbox.jobs
                SET lease_token = gen_random_uuid(), worker_id = '00000000-0000-4000-8000-000000000001', claimed_at = now(), attempt = 1
                WHERE (args ->> 'id')::integer <= {keys} AND job_group LIKE 'blocked %'
                RETURNING id, job_group
            )
            INSERT INTO outbox.job_groups (queue, job_group, state, look_at, concurrency, holders)
            SELECT 'default', job_group, 'full', 'infinity', 1, ARRAY[id]
            FROM first
            """);
    });

    private static Task LimitAsync(string connection, string limits) => Bench.ExecuteAsync(
        connection, $"INSERT INTO outbox.queues (name, limited, concurrency, group_concurrency, group_order) VALUES ('default', true, {limits})");

    internal static Task FillAsync(
        string connection, int jobs, string group, string runAt = "now() - interval '1 minute' + n * interval '1 microsecond'", int firstId = 1) => Bench.ExecuteAsync(
        connection,
        $$"""
        INSERT INTO outbox.jobs (id, kind, args, queue, priority, run_at, max_attempts, job_group)
        SELECT outbox.new_job_id(), 'noop', jsonb_build_object('id', n + {{firstId - 1}}), 'default', 2, {{runAt}}, 20, {{group}}
        FROM generate_series(1, {{jobs}}) AS n
        """);
}
