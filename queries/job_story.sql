-- One job's whole story, in the order it happened: enqueued, each failure that was kept, claimed, ended, and what comes next.
-- Which job: SET outbox_query.job_id = '<id>'; before it, or PGOPTIONS='-c outbox_query.job_id=<id>'; without, the newest one. Bounded: by ids.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

WITH chosen AS MATERIALIZED (
    SELECT coalesce(
        nullif(current_setting('outbox_query.job_id', true), '')::uuid,
        (
            SELECT id
            FROM outbox.all_jobs
            ORDER BY id DESC
            LIMIT 1
        )) AS id
),
job AS MATERIALIZED (
    SELECT
        id,
        state,
        queue,
        kind,
        priority,
        run_at,
        created_at,
        claimed_at,
        finished_at,
        attempt,
        failures,
        crashes,
        max_attempts,
        worker_id,
        cancel_requested_at,
        errors
    FROM outbox.all_jobs
    WHERE id = (SELECT id FROM chosen)
    LIMIT 1
),
story AS (
    SELECT 1 AS step, created_at AS at, 'enqueued' AS event,
        format('%s in queue %s, priority %s, to run from %s on', kind, queue, priority, run_at) AS detail
    FROM job
    UNION ALL
    SELECT 2, (error ->> 'at')::timestamptz, 'attempt ' || coalesce(error ->> 'attempt', '?'),
        concat_ws(': ', error ->> 'type', left(error ->> 'message', 500))
    FROM job
    CROSS JOIN LATERAL jsonb_array_elements(errors) AS error
    UNION ALL
    SELECT 3, claimed_at, 'claimed',
        format('attempt %s, by worker %s', attempt, coalesce(workers.name || ' on ' || workers.host, job.worker_id::text))
    FROM job
    LEFT JOIN outbox.workers AS workers ON workers.id = job.worker_id
    WHERE claimed_at IS NOT NULL
    UNION ALL
    SELECT 4, cancel_requested_at, 'cancel requested', NULL
    FROM job
    WHERE cancel_requested_at IS NOT NULL
    UNION ALL
    SELECT 5, coalesce(finished_at, run_at), state,
        format('%s attempts, %s failures of %s, %s crashes', attempt, failures, max_attempts, crashes)
    FROM job
)
SELECT
    (SELECT id FROM job) AS job_id,
    at,
    event,
    detail
FROM story
ORDER BY at NULLS LAST, step
LIMIT 100;

COMMIT;
