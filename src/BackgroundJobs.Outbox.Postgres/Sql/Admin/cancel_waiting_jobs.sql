-- Ends up to @limit jobs that no worker holds, in the order of their ids, from @after on.
-- Invariant: never a claimed job. The lock is asked for and the lease looked at again; what is being claimed right now is skipped, and
-- request_cancel.sql comes after.
WITH unclaimed AS MATERIALIZED (
    SELECT id
    FROM outbox.jobs
    WHERE lease_token IS NULL
      AND id > @after::uuid
      AND CASE
          WHEN lease_token IS NOT NULL THEN 'running'
          WHEN priority < 0 THEN 'blocked'
          WHEN failures > 0 AND run_at > now() THEN 'retrying'
          WHEN run_at > now() THEN 'scheduled'
          ELSE 'waiting'
      END = ANY (@states::text[])
      AND (@ids::uuid[] IS NULL OR id = ANY (@ids))
      AND (@queue::text IS NULL OR queue = @queue)
      AND (@kind::text IS NULL OR kind = @kind)
      AND (@workflow::uuid IS NULL OR workflow_id = @workflow)
      AND (@group::text IS NULL OR job_group = @group)
      AND (@created_after::timestamptz IS NULL OR created_at >= @created_after)
      AND (@created_before::timestamptz IS NULL OR created_at < @created_before)
      AND (@error_contains::text IS NULL OR EXISTS (
          SELECT
          FROM jsonb_array_elements(errors) AS error
          WHERE strpos(lower(concat_ws(' ', error ->> 'type', error ->> 'message')), lower(@error_contains)) > 0))
    ORDER BY id
    LIMIT @limit::bigint
    FOR UPDATE SKIP LOCKED
),
removed AS (
    DELETE FROM outbox.jobs AS job
    USING unclaimed
    WHERE job.id = unclaimed.id
      AND job.lease_token IS NULL
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
)
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
    CASE WHEN jsonb_array_length(errors) >= 5 THEN errors - 0 ELSE coalesce(errors, '[]') END
        || jsonb_build_object('attempt', attempt, 'type', 'cancelled', 'message', @reason::text, 'at', clock_timestamp())
FROM removed
RETURNING id, queue, run_at, job_group
