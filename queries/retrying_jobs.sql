-- What has failed and will be tried again, soonest first, with its last error.
-- Bounded: 100 rows, found among the 10,000 soonest jobs of each queue and priority that are not due yet.
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
retrying AS (
    SELECT failed.*
    FROM ranges
    CROSS JOIN LATERAL (
        SELECT *
        FROM (
            SELECT id, queue, kind, run_at, attempt, failures, max_attempts, errors
            FROM outbox.jobs
            WHERE queue = ranges.queue
              AND priority = ranges.level
              AND priority > 0
              AND run_at > now()
            ORDER BY run_at, id
            LIMIT 10000
        ) AS first_later
        WHERE failures > 0
        LIMIT 100
    ) AS failed
)
SELECT
    id,
    queue,
    kind,
    run_at,
    run_at - now() AS due_in,
    attempt,
    failures,
    max_attempts,
    errors -> -1 ->> 'type' AS error_type,
    left(errors -> -1 ->> 'message', 500) AS error_message
FROM retrying
ORDER BY run_at
LIMIT 100;

COMMIT;
