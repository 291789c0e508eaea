-- How far a workflow or a batch is: all its jobs, counted.
-- Which one: SET outbox_query.workflow_id = '<id>'; before it, or PGOPTIONS='-c outbox_query.workflow_id=<id>'; without, the newest unfinished
-- one. Bounded: by the workflow's own size, two ranges of an index.
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
),
unfinished AS (
    SELECT
        count(*) AS jobs,
        count(*) FILTER (WHERE priority < 0) AS blocked,
        count(*) FILTER (WHERE lease_token IS NOT NULL) AS running
    FROM outbox.jobs
    WHERE workflow_id = (SELECT id FROM chosen)
),
finished AS (
    SELECT
        count(*) AS jobs,
        count(*) FILTER (WHERE state = 'completed') AS completed,
        count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE state = 'dead') AS dead
    FROM outbox.job_history
    WHERE workflow_id = (SELECT id FROM chosen)
)
SELECT
    (SELECT id FROM chosen) AS workflow_id,
    unfinished.jobs + finished.jobs AS total,
    unfinished.blocked,
    unfinished.jobs - unfinished.blocked - unfinished.running AS waiting,
    unfinished.running,
    finished.completed,
    finished.cancelled,
    finished.dead
FROM unfinished
CROSS JOIN finished
LIMIT 1;

COMMIT;
