-- What waits longest: the most due job of each queue and priority that no worker has taken yet, and how long it is overdue.
-- Bounded: passes over at most 10,000 jobs that are running in each queue and priority.
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
)
SELECT
    ranges.queue,
    ranges.level AS priority,
    oldest.id,
    oldest.kind,
    oldest.run_at,
    now() - oldest.run_at AS waiting_for,
    queues.paused_at IS NOT NULL OR EXISTS (
        SELECT
        FROM outbox.paused_kinds AS kinds
        WHERE kinds.kind = oldest.kind
          AND kinds.queue IN ('', ranges.queue)
    ) AS paused
FROM ranges
CROSS JOIN LATERAL (
    SELECT id, kind, run_at
    FROM (
        SELECT id, kind, run_at, lease_token
        FROM outbox.jobs
        WHERE queue = ranges.queue
          AND priority = ranges.level
          AND priority > 0
          AND run_at <= now()
        ORDER BY run_at, id
        LIMIT 10000
    ) AS first_due
    WHERE lease_token IS NULL
    LIMIT 1
) AS oldest
LEFT JOIN outbox.queues AS queues ON queues.name = ranges.queue
ORDER BY oldest.run_at
LIMIT 100;

COMMIT;
