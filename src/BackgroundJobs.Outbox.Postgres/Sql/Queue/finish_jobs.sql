-- Moves jobs that ended (completed, cancelled, dead) to the history, and returns the ids of those that were not ours any more.
-- Invariant: fenced. A row is only touched under the lease token it was claimed with; there is no other way out of outbox.jobs for a claim.
-- @history: 0 keep, 1 keep without args, 2 keep nothing.
WITH ended AS (
    SELECT *
    FROM unnest(@ids::uuid[], @lease_tokens::uuid[], @states::text[], @history::smallint[], @errors::text[], @cursors::text[])
        AS t (id, lease_token, state, history, error, saved_cursor)
),
removed AS (
    DELETE FROM outbox.jobs AS job
    USING ended
    WHERE job.id = ended.id
      AND job.lease_token = ended.lease_token
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
        job.crashes,
        job.queue,
        job.kind,
        job.args,
        job.headers,
        job.traceparent,
        coalesce(ended.saved_cursor::jsonb, job.saved_cursor) AS saved_cursor,
        job.errors,
        ended.state,
        ended.history,
        ended.error
),
remembered AS (
    INSERT INTO outbox.job_history (
        id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
        state, queue, kind, args, headers, traceparent, saved_cursor, errors)
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
        failures + CASE WHEN state = 'dead' AND error IS NOT NULL THEN 1 ELSE 0 END,
        crashes,
        state,
        queue,
        kind,
        CASE WHEN history = 1 THEN NULL ELSE args END,
        headers,
        traceparent,
        CASE WHEN state = 'completed' THEN NULL ELSE saved_cursor END,
        CASE
            WHEN error IS NULL THEN errors
            ELSE CASE WHEN jsonb_array_length(errors) >= 5 THEN errors - 0 ELSE coalesce(errors, '[]') END
                 || (error::jsonb || jsonb_build_object('at', clock_timestamp()))
        END
    FROM removed
    WHERE history < 2
)
SELECT id
FROM ended
EXCEPT
SELECT id
FROM removed
