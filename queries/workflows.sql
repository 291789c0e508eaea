-- The newest workflows that have unfinished jobs, and how far they are.
-- Bounded: 100 workflows; of each the first 1,000 unfinished and the first 1,000 finished jobs are counted, at_least says that there are more.
-- workflow.sql counts all of one.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;

WITH RECURSIVE ids AS (
    (
        SELECT workflow_id
        FROM outbox.jobs
        WHERE workflow_id IS NOT NULL
        ORDER BY workflow_id DESC
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT workflow_id
        FROM outbox.jobs
        WHERE workflow_id < ids.workflow_id
        ORDER BY workflow_id DESC
        LIMIT 1
    )
    FROM ids
    WHERE ids.workflow_id IS NOT NULL
),
newest AS (
    SELECT workflow_id
    FROM ids
    WHERE workflow_id IS NOT NULL
    LIMIT 100
)
SELECT
    newest.workflow_id,
    unfinished.created_at,
    unfinished.blocked,
    unfinished.jobs - unfinished.blocked - unfinished.running AS waiting,
    unfinished.running,
    finished.completed,
    finished.cancelled,
    finished.dead,
    unfinished.jobs = 1000 OR finished.jobs = 1000 AS at_least
FROM newest
CROSS JOIN LATERAL (
    SELECT
        count(*) AS jobs,
        count(*) FILTER (WHERE priority < 0) AS blocked,
        count(*) FILTER (WHERE lease_token IS NOT NULL) AS running,
        min(created_at) AS created_at
    FROM (
        SELECT priority, lease_token, created_at
        FROM outbox.jobs
        WHERE workflow_id = newest.workflow_id
        LIMIT 1000
    ) AS first_unfinished
) AS unfinished
CROSS JOIN LATERAL (
    SELECT
        count(*) AS jobs,
        count(*) FILTER (WHERE state = 'completed') AS completed,
        count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE state = 'dead') AS dead
    FROM (
        SELECT state
        FROM outbox.job_history
        WHERE workflow_id = newest.workflow_id
        LIMIT 1000
    ) AS first_finished
) AS finished
ORDER BY newest.workflow_id DESC
LIMIT 100;

COMMIT;
