-- The jobs of one workflow, parents before their children: where each is, what it depends on, and how many of those it still waits for.
-- Which one: SET outbox_query.workflow_id = '<id>'; before it, or PGOPTIONS='-c outbox_query.workflow_id=<id>'; without, the newest unfinished
-- one. Bounded: the first 1,000 jobs.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;

WITH chosen AS MATERIALIZED (
    SELECT coalesce(
        nullif(current_setting('outbox_query.workflow_id', true), '')::uuid,
        (
            SELECT workflow_id
            FROM outbox.jobs
            WHERE workflow_id IS NOT NULL
            ORDER BY workflow_id DESC
            LIMIT 1
        )) AS id
)
SELECT
    job.id AS job_id,
    job.state,
    job.kind,
    job.attempt,
    job.depends_on::text,
    (SELECT count(*) FROM outbox.job_waits AS wait WHERE wait.job_id = job.id) AS waits_for,
    job.finished_at,
    left(job.errors -> -1 ->> 'message', 500) AS last_error
FROM (
    SELECT id, state, kind, attempt, depends_on, finished_at, errors
    FROM outbox.all_jobs
    WHERE workflow_id = (SELECT id FROM chosen)
    ORDER BY id
    LIMIT 1000
) AS job
ORDER BY job.id
LIMIT 1000;

COMMIT;
