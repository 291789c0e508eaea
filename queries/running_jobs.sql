-- What is running: since when, by which worker, how far, and how long its lease lasts if it never beats again. Longest first.
-- Bounded: 200 rows, found among the 10,000 most due jobs of each queue and priority; what is claimed is among them.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;

-- From the end, where the rows of a busy queue live; its beginning is what was finished and not yet vacuumed.
WITH RECURSIVE queue_names AS (
    (
        SELECT queue
        FROM outbox.jobs
        WHERE priority > 0
        ORDER BY queue DESC
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT queue
        FROM outbox.jobs
        WHERE queue < queue_names.queue
          AND priority > 0
        ORDER BY queue DESC
        LIMIT 1
    )
    FROM queue_names
    WHERE queue_names.queue IS NOT NULL
),
ranges AS (
    SELECT queue, level
    FROM queue_names
    CROSS JOIN generate_series(1, 4) AS level
    WHERE queue IS NOT NULL
    LIMIT 1000
),
running AS (
    SELECT held.*
    FROM ranges
    CROSS JOIN LATERAL (
        SELECT *
        FROM (
            SELECT id, queue, kind, priority, attempt, claimed_at, worker_id, lease_token, cancel_requested_at, progress
            FROM outbox.jobs
            WHERE queue = ranges.queue
              AND priority = ranges.level
              AND priority > 0
              AND run_at <= now()
            ORDER BY run_at, id
            LIMIT 10000
        ) AS first_due
        WHERE lease_token IS NOT NULL
    ) AS held
    ORDER BY held.claimed_at
    LIMIT 200
)
SELECT
    running.id,
    running.queue,
    running.kind,
    running.priority,
    running.attempt,
    running.claimed_at,
    greatest(clock_timestamp() - running.claimed_at, interval '0') AS running_for,
    running.worker_id,
    workers.name AS worker,
    workers.host,
    workers.process_id,
    workers.heartbeat_at + workers.lease - clock_timestamp() AS lease_left,
    CASE WHEN jsonb_typeof(running.progress -> 'value') = 'number' THEN (running.progress ->> 'value')::double precision END AS progress,
    running.progress ->> 'text' AS progress_text,
    running.cancel_requested_at
FROM running
LEFT JOIN outbox.workers AS workers ON workers.id = running.worker_id
ORDER BY running.claimed_at
LIMIT 200;

COMMIT;
