-- Ends jobs that wait although a cancel was asked for: it came while they ran, and they were given back before the handler heard of it.
-- Others of their groups may start then. One whose row somebody holds is passed over: the jobs of the dead must not wait for it, and a heartbeat asks
-- again. By an array: a join could be planned for as many as statistics once saw.
WITH removed AS (
    DELETE FROM outbox.jobs AS job
    WHERE job.id = ANY (ARRAY(
        SELECT id
        FROM outbox.jobs
        WHERE cancel_requested_at IS NOT NULL
          AND lease_token IS NULL
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING
        job.id,
        job.run_at,
        job.created_at,
        job.attempt,
        job.priority,
        job.max_attempts,
        job.failures,
        job.crashes,
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
        job.errors
),
remembered AS (
    INSERT INTO outbox.job_history (
        id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes,
        state, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id, depends_on, job_group, unique_key, unique_rule, errors)
    SELECT
        id,
        clock_timestamp(),
        run_at,
        created_at,
        attempt,
        abs(priority),
        max_attempts,
        failures,
        crashes,
        'cancelled',
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
        CASE WHEN jsonb_array_length(errors) >= 5 THEN errors - 0 ELSE coalesce(errors, '[]') END || jsonb_build_object(
            'attempt', attempt,
            'type', 'cancelled',
            'message', 'Cancelled while it ran; it was given back before the handler heard of it.',
            'at', clock_timestamp())
    FROM removed
)
SELECT queue, clock_timestamp() AS run_at, count(*) AS jobs, array_agg(DISTINCT coalesce(job_group, '')) AS groups
FROM removed
GROUP BY queue
