using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Inspection;

// 200,000 unfinished and 200,000 finished jobs: five queues, four priorities, twenty kinds, 500 running, 10,000 retrying, 14,000 that gave up; and 150 chains of 200.
[CollectionDefinition(nameof(SeededDatabase))]
public sealed class SeededDatabase : IAsyncLifetime, ICollectionFixture<SeededDatabase>
{
    internal ScratchDatabase Database { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Database = await ScratchDatabase.MigratedAsync();
        await Database.ExecuteAsync("""
            INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds)
            SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'worker-' || n, 'host', n, '1.0', interval '10 s', '{}', '{kind_1}'
            FROM generate_series(1, 4) AS n
            """);
        await Database.ExecuteAsync("INSERT INTO outbox.operations (at, verb, jobs, what) SELECT now() - n * interval '1 minute', 'retry', n, '{}' FROM generate_series(1, 50000) AS n");
        await Database.ExecuteAsync("INSERT INTO outbox.queues (name, paused_at, paused_by, pause_reason) VALUES ('q1', now(), 'ops', 'a fire'), ('idle', NULL, NULL, NULL)");
        await Database.ExecuteAsync("INSERT INTO outbox.paused_kinds (kind, queue, pause_reason) VALUES ('kind_3', '', 'a fire'), ('kind_4', 'q2', NULL)");
        await Database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, run_at, created_at, claimed_at, lease_token, worker_id, attempt, priority, failures, queue, kind, args, errors)
            SELECT
                outbox.new_job_id(),
                now() + (n - 150000) * interval '100 ms',
                now() - interval '1 day',
                CASE WHEN n <= 500 THEN now() - n * interval '1 s' END,
                CASE WHEN n <= 500 THEN gen_random_uuid() END,
                CASE WHEN n <= 500 THEN ('00000000-0000-4000-8000-' || lpad((n % 4 + 1)::text, 12, '0'))::uuid END,
                n % 3,
                n % 4 + 1,
                CASE WHEN n > 190000 THEN 1 ELSE 0 END,
                'q' || n % 5,
                'kind_' || n % 20,
                jsonb_build_object('n', n),
                CASE WHEN n > 190000 THEN
                    jsonb_build_array(jsonb_build_object('attempt', 1, 'type', 'System.TimeoutException', 'message', 'slow ' || n % 7, 'at', now()))
                END
            FROM generate_series(1, 200000) AS n
            """);
        await Database.ExecuteAsync("""
            INSERT INTO outbox.job_history (
                id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, unique_key, unique_rule, met_id)
            SELECT
                outbox.new_job_id(), now() - interval '40 min' - n * interval '10 ms', now(), now() - interval '41 min', 0, 2, 20, 0, 0, 'cancelled', 'q0', 'kind_1',
                'key ' || n % 10, '{"rule": "replace"}', gen_random_uuid()
            FROM generate_series(1, 20000) AS n
            """);
        await Database.ExecuteAsync("""
            INSERT INTO outbox.job_history (
                id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
                state, queue, kind, args, errors)
            SELECT
                outbox.new_job_id(),
                now() - (200000 - n) * interval '10 ms',
                now() - interval '1 day',
                now() - interval '1 day',
                now() - interval '1 hour',
                gen_random_uuid(),
                1, 2, 20, 1, 0,
                CASE WHEN n % 20 = 0 THEN 'dead' WHEN n % 50 = 1 THEN 'cancelled' ELSE 'completed' END,
                'q' || n % 5,
                'kind_' || n % 20,
                jsonb_build_object('n', n),
                CASE WHEN n % 20 = 0 THEN
                    jsonb_build_array(jsonb_build_object('attempt', 1, 'type', 'System.Exception', 'message', 'broken ' || n % 7, 'at', now()))
                END
            FROM generate_series(1, 200000) AS n
            """);
        await Database.ExecuteAsync("""
            INSERT INTO outbox.queues (name, limited, concurrency, rate, rate_period)
            SELECT 'q' || n, true, 10, 100, interval '1 minute'
            FROM generate_series(0, 2) AS n
            ON CONFLICT (name) DO UPDATE SET limited = true, concurrency = 10, rate = 100, rate_period = interval '1 minute';
            INSERT INTO outbox.queue_holders (queue, part, jobs, ids)
            SELECT queue, 1, 20, array_agg(id)
            FROM (SELECT queue, id, row_number() OVER (PARTITION BY queue) AS nth FROM outbox.jobs WHERE queue IN ('q0', 'q1', 'q2')) AS numbered
            WHERE nth <= 20
            GROUP BY queue;
            INSERT INTO outbox.job_groups (queue, job_group, state, look_at, holders)
            SELECT 'q' || n % 3, 'group-' || n, (ARRAY['ready', 'full', 'later', 'failed', 'idle'])[1 + n % 5], now() + interval '1 day', ARRAY[gen_random_uuid()]
            FROM generate_series(1, 60000) AS n
            """);
        await Database.ExecuteAsync("""
            INSERT INTO outbox.schedules (name, kind, cron, next_at, last_at, last_job_id)
            SELECT 'schedule-' || n, 'kind_1', '0 * * * *', now() + n * interval '1 s', now(), id
            FROM (SELECT id, row_number() OVER () AS n FROM outbox.all_jobs WHERE id IN (SELECT id FROM outbox.jobs LIMIT 1500) OR id IN (SELECT id FROM outbox.job_history LIMIT 1500)) AS chosen
            """);
        await Database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, queue, priority, workflow_id, depends_on)
            SELECT
                ('10000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
                'kind_1',
                '{}',
                'q0',
                CASE WHEN n % 200 = 0 THEN 2 ELSE -2 END,
                ('20000000-0000-7000-8000-' || lpad((n / 200)::text, 12, '0'))::uuid,
                CASE WHEN n % 200 > 0 THEN jsonb_build_object('10000000-0000-7000-8000-' || lpad((n - 1)::text, 12, '0'), 'success') END
            FROM generate_series(0, 29999) AS n
            """);
        await Database.ExecuteAsync("VACUUM ANALYZE outbox.jobs");
        await Database.ExecuteAsync("VACUUM ANALYZE outbox.job_waits");
        await Database.ExecuteAsync("VACUUM ANALYZE outbox.job_history");
    }

    public ValueTask DisposeAsync() => Database.DisposeAsync();
}
