-- The queues that have jobs or that something was said about: is it paused, how long has its most due job waited, when is the next one due.
-- Bounded: 250 queues, a few index lookups each.
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
every_queue AS (
    SELECT queue
    FROM ranges
    UNION
    SELECT name
    FROM outbox.queues
)
SELECT
    every_queue.queue,
    queues.paused_at,
    queues.paused_by,
    queues.pause_reason,
    now() - waiting.run_at AS waiting_for,
    later.run_at AS next_due_at
FROM every_queue
LEFT JOIN outbox.queues AS queues ON queues.name = every_queue.queue
LEFT JOIN LATERAL (
    SELECT min(first_due.run_at) AS run_at
    FROM generate_series(1, 4) AS level
    CROSS JOIN LATERAL (
        SELECT run_at
        FROM (
            SELECT run_at, lease_token
            FROM outbox.jobs
            WHERE queue = every_queue.queue
              AND priority = level
              AND priority > 0
              AND run_at <= now()
            ORDER BY run_at, id
            LIMIT 10000
        ) AS most_due
        WHERE lease_token IS NULL
        LIMIT 1
    ) AS first_due
) AS waiting ON true
LEFT JOIN LATERAL (
    SELECT min(first_later.run_at) AS run_at
    FROM generate_series(1, 4) AS level
    CROSS JOIN LATERAL (
        SELECT run_at
        FROM outbox.jobs
        WHERE queue = every_queue.queue
          AND priority = level
          AND priority > 0
          AND run_at > now()
        ORDER BY run_at, id
        LIMIT 1
    ) AS first_later
) AS later ON true
ORDER BY every_queue.queue
LIMIT 1000;

COMMIT;
