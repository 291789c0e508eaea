-- Which kinds fail: jobs that died in the last 24 hours and jobs that wait for another attempt, with the newest error of the kind.
-- Bounded: counts among the 10,000 that gave up last and the 10,000 soonest of each queue and priority; 50 kinds.
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
died AS (
    SELECT kind, finished_at AS failed_at, errors -> -1 AS error
    FROM (
        SELECT kind, state, finished_at, errors
        FROM outbox.job_history
        WHERE state <> 'completed'
          AND met_id IS NULL
          AND finished_at > now() - interval '24 hours'
        ORDER BY finished_at DESC
        LIMIT 10000
    ) AS gave_up
    WHERE state = 'dead'
),
retrying AS (
    SELECT failed.kind, (failed.errors -> -1 ->> 'at')::timestamptz AS failed_at, failed.errors -> -1 AS error
    FROM ranges
    CROSS JOIN LATERAL (
        SELECT kind, failures, errors
        FROM outbox.jobs
        WHERE queue = ranges.queue
          AND priority = ranges.level
          AND priority > 0
          AND run_at > now()
        ORDER BY run_at, id
        LIMIT 10000
    ) AS failed
    WHERE failed.failures > 0
),
failures AS (
    SELECT kind, 1 AS dead, 0 AS retrying, failed_at, error
    FROM died
    UNION ALL
    SELECT kind, 0 AS dead, 1 AS retrying, failed_at, error
    FROM retrying
),
newest AS (
    SELECT DISTINCT ON (kind)
        kind,
        failed_at,
        error
    FROM failures
    ORDER BY kind, failed_at DESC NULLS LAST
)
SELECT
    failures.kind,
    sum(failures.dead)::bigint AS dead,
    sum(failures.retrying)::bigint AS retrying,
    newest.failed_at AS last_failed_at,
    newest.error ->> 'type' AS error_type,
    left(newest.error ->> 'message', 500) AS error_message
FROM failures
JOIN newest ON newest.kind = failures.kind
GROUP BY failures.kind, newest.failed_at, newest.error
ORDER BY sum(failures.dead) + sum(failures.retrying) DESC, failures.kind
LIMIT 50;

COMMIT;
