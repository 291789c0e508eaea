-- One heartbeat: prolongs the lease of everything the worker holds, and tells it what it should know. No row: the worker was declared dead.
-- Invariant: a beat waits for a rescue that has locked its row, and then finds itself dead; it never brings a rescued worker back.
WITH beat AS (
    UPDATE outbox.workers
    SET heartbeat_at = clock_timestamp(),
        running = @running,
        stuck = @stuck,
        stopping = @stopping
    WHERE id = @worker
      AND dead_at IS NULL
    RETURNING id
)
SELECT
    EXISTS (
        SELECT
        FROM outbox.workers
        WHERE heartbeat_at NOT BETWEEN clock_timestamp() - lease AND clock_timestamp()
          AND id <> @worker
    ) AS someone_died,
    ARRAY(
        SELECT id
        FROM outbox.jobs
        WHERE cancel_requested_at IS NOT NULL
          AND worker_id = @worker
        LIMIT 1000
    ) AS cancelled,
    EXISTS (
        SELECT
        FROM outbox.jobs
        WHERE cancel_requested_at IS NOT NULL
          AND lease_token IS NULL
    ) AS cancelled_waits,
    EXISTS (SELECT FROM outbox.unsettled_jobs) OR EXISTS (
        SELECT
        FROM outbox.jobs
        WHERE unique_key IS NOT NULL
          AND priority < 0
          AND cancel_requested_at IS NULL
    ) AS unsettled,
    ARRAY(
        SELECT DISTINCT queue
        FROM outbox.jobs
        WHERE crashes >= 2
          AND lease_token IS NULL
          AND queue = ANY (@queues)
          AND run_at <= now()
    ) AS suspects,
    (
        SELECT min(next.run_at)
        FROM unnest(@queues) AS queues (name)
        CROSS JOIN generate_series(1, 4) AS priorities (priority)
        CROSS JOIN LATERAL (
            SELECT run_at
            FROM outbox.jobs
            WHERE queue = queues.name
              AND priority = priorities.priority
              AND priority > 0
              AND run_at > now()
            ORDER BY run_at
            LIMIT 1
        ) AS next
    ) AS next_due,
    pg_postmaster_start_time() AS server_started_at,
    (
        SELECT nullif(coalesce(next_at, now()), 'infinity'::timestamptz)
        FROM outbox.schedules
        WHERE paused_at IS NULL
        ORDER BY coalesce(next_at, '-infinity'::timestamptz), name
        LIMIT 1
    ) AS next_tick,
    ARRAY(
        SELECT name
        FROM outbox.queues
        WHERE name = ANY (@queues)
          AND limited
    ) AS limited,
    ARRAY(
        SELECT name
        FROM outbox.queues
        WHERE name = ANY (@queues)
          AND (rate IS NOT NULL OR group_rate IS NOT NULL)
    ) AS rated,
    EXISTS (SELECT FROM outbox.paused_kinds) AS passes_over,
    EXISTS (
        SELECT
        FROM outbox.queues
        WHERE name = ANY (@queues)
          AND limited
          AND groups_looked_at NOT BETWEEN now() - interval '30 seconds' AND now()
    ) AS look_for_groups,
    clock_timestamp() AS now
FROM beat
