-- Gives the jobs of dead workers back, in the transaction that declared them dead. They are as due as they were, and no failure is charged.
-- A crash is charged to every job the worker held, up to two; from then on a job is a suspect: it runs with no other suspect, and
-- only suspects are charged.
-- So a job that kills its process is set aside after @max_crashes, and none of its neighbours ever is.
-- A job that a frozen handler's open transaction has just completed is passed over: that transaction decides, and the others must not wait.
WITH held AS (
    SELECT job.id, job.crashes, job.cancel_requested_at, job.worker_id
    FROM outbox.jobs AS job
    WHERE job.worker_id IN (SELECT id FROM outbox.workers WHERE dead_at IS NOT NULL)
    FOR UPDATE OF job SKIP LOCKED
),
charged AS (
    SELECT
        id,
        cancel_requested_at,
        least(crashes, 32766) + CASE WHEN crashes >= 2 OR NOT bool_or(crashes >= 2) OVER (PARTITION BY worker_id) THEN 1 ELSE 0 END AS crashes
    FROM held
),
set_aside AS (
    DELETE FROM outbox.jobs AS job
    USING charged
    WHERE job.id = charged.id
      AND (charged.cancel_requested_at IS NOT NULL OR charged.crashes >= @max_crashes)
    RETURNING
        job.id,
        job.run_at,
        job.created_at,
        job.claimed_at,
        job.worker_id,
        job.attempt,
        job.priority,
        job.max_attempts,
        job.failures,
        charged.crashes,
        job.queue,
        job.kind,
        job.args,
        job.headers,
        job.traceparent,
        job.saved_cursor,
        job.steps,
        job.workflow_id,
        job.depends_on,
        job.job_group,
        job.unique_key,
        job.unique_rule,
        coalesce(job.errors, '[]') AS errors,
        CASE WHEN charged.cancel_requested_at IS NULL THEN 'dead' ELSE 'cancelled' END AS state
),
remembered AS (
    INSERT INTO outbox.job_history (
        id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
        state, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id, depends_on, job_group, unique_key, unique_rule, errors)
    SELECT
        id,
        clock_timestamp(),
        run_at,
        created_at,
        claimed_at,
        worker_id,
        attempt,
        priority,
        max_attempts,
        failures,
        crashes,
        state,
        queue,
        kind,
        args,
        headers,
        traceparent,
        saved_cursor,
        steps,
        workflow_id,
        depends_on,
        job_group,
        unique_key,
        unique_rule,
        CASE WHEN jsonb_array_length(errors) >= 5 THEN errors - 0 ELSE errors END || jsonb_build_object(
            'attempt', attempt,
            'type', CASE state WHEN 'dead' THEN 'crashed' ELSE 'cancelled' END,
            'message', CASE state
                WHEN 'dead' THEN format(
                    'Its worker died under it %s times, the last times with no other suspect beside it. It was set aside so that it takes no more workers down. Mend the handler, then retry the job.',
                    crashes)
                ELSE 'Cancelled while it ran; its worker died before the handler ended.'
            END,
            'at', clock_timestamp())
    FROM set_aside
),
released AS (
    UPDATE outbox.jobs AS job
    SET crashes = charged.crashes,
        lease_token = NULL,
        worker_id = NULL,
        claimed_at = NULL
    FROM charged
    WHERE job.id = charged.id
      AND charged.cancel_requested_at IS NULL
      AND charged.crashes < @max_crashes
    RETURNING job.queue, job.run_at, job.job_group
)
SELECT queue, min(run_at) AS run_at, count(*) FILTER (WHERE is_released) AS jobs, array_agg(DISTINCT coalesce(job_group, '')) AS groups
FROM (
    SELECT queue, run_at, job_group, true AS is_released
    FROM released
    UNION ALL
    SELECT queue, run_at, job_group, false
    FROM set_aside
) AS ended
GROUP BY queue
