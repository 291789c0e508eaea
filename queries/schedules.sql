-- The schedules, by name: when each ticked last and what became of its job, when it ticks next, and why not.
-- Bounded: 1,000 rows by the key; of each its last job, by two keys.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;

SELECT
    schedules.name AS schedule,
    schedules.kind::text,
    schedules.queue::text,
    schedules.job_group,
    schedules.cron,
    schedules.every,
    schedules.time_zone,
    schedules.missed,
    schedules.missed_limit,
    schedules.overlap,
    schedules.declared IS NOT NULL AS is_declared,
    schedules.paused_at,
    schedules.last_at,
    schedules.last_job_id,
    (
        SELECT last_job.state
        FROM outbox.all_jobs AS last_job
        WHERE last_job.id = schedules.last_job_id
        LIMIT 1
    ) AS last_job_state,
    CASE WHEN schedules.paused_at IS NULL THEN nullif(schedules.next_at, 'infinity') END AS next_at,
    schedules.problem
FROM outbox.schedules AS schedules
ORDER BY schedules.name
LIMIT 1000;

COMMIT;
