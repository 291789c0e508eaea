-- The groups whose jobs may not start now, and why: as many run as may, as many were started as may, a pause, or in strict order a job that has failed.
-- Bounded: 20 queues, 100 groups of each state; of each its jobs that run, by their ids.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;

SELECT
    blocked.queue,
    blocked.job_group,
    CASE
        WHEN blocked.paused_until > now() THEN 'paused'
        WHEN blocked.state = 'later' AND (blocked.head IS NULL OR EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = blocked.head AND job.run_at <= now())) THEN 'rate'
        WHEN blocked.state = 'full' AND blocked.head IS NULL THEN 'concurrency'
        ELSE 'order'
    END AS why,
    nullif(blocked.look_at, 'infinity') AS until,
    blocked.pause_reason,
    (
        SELECT count(*)
        FROM outbox.jobs AS job
        WHERE job.id = ANY (blocked.holders)
          AND job.lease_token IS NOT NULL
    ) AS running,
    blocked.head AS behind_job_id,
    (
        SELECT job.state
        FROM outbox.all_jobs AS job
        WHERE job.id = blocked.head
        LIMIT 1
    ) AS behind_job_state
FROM (
    SELECT name
    FROM outbox.queues
    WHERE limited
    ORDER BY name
    LIMIT 20
) AS limits
CROSS JOIN unnest('{failed,later,full}'::text[]) AS states (state)
CROSS JOIN LATERAL (
    SELECT *
    FROM outbox.job_groups AS known
    WHERE known.queue = limits.name
      AND known.state = states.state
    ORDER BY known.turn
    LIMIT 100
) AS blocked
ORDER BY blocked.state = 'failed' DESC, blocked.queue, blocked.job_group
LIMIT 1000;

COMMIT;
