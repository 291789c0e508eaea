-- Takes up to @limit jobs that gave up from the history back to their queue, in the order of their ids, from @after on.
-- Invariants: a job is in one of the two tables, in the same transaction; its attempt number never goes down, because it is a fencing number
-- for other systems; what happened to it stays in its errors, and it goes on from its cursor and behind its steps. What was
-- cancelled because of a parent comes back with that one (bring_back_children.sql), and never before it. What has a unique key comes back blocked,
-- and is compared with the others of it anew.
WITH given_up AS MATERIALIZED (
    SELECT id, finished_at
    FROM outbox.job_history AS old
    WHERE state <> 'completed'
      AND state = ANY (@states::text[])
      AND NOT (state = 'cancelled' AND workflow_id IS NOT NULL AND errors -> -1 ->> 'type' IS NOT DISTINCT FROM 'parent')
      AND args IS NOT NULL
      AND id > @after::uuid
      AND NOT EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = old.id)
      AND (@ids::uuid[] IS NULL OR id = ANY (@ids))
      AND (@queue::text IS NULL OR queue = @queue)
      AND (@kind::text IS NULL OR kind = @kind)
      AND (@workflow::uuid IS NULL OR workflow_id = @workflow)
      AND (@group::text IS NULL OR job_group = @group)
      AND (@created_after::timestamptz IS NULL OR created_at >= @created_after)
      AND (@created_before::timestamptz IS NULL OR created_at < @created_before)
      AND (@finished_after::timestamptz IS NULL OR finished_at >= @finished_after)
      AND (@finished_before::timestamptz IS NULL OR finished_at < @finished_before)
      AND (@error_contains::text IS NULL OR EXISTS (
          SELECT
          FROM jsonb_array_elements(errors) AS error
          WHERE strpos(lower(concat_ws(' ', error ->> 'type', error ->> 'message')), lower(@error_contains)) > 0))
    ORDER BY id
    LIMIT @limit::bigint
    FOR UPDATE OF old SKIP LOCKED
),
removed AS (
    DELETE FROM outbox.job_history AS old
    USING given_up
    WHERE old.id = given_up.id
      AND old.finished_at = given_up.finished_at
    RETURNING
        old.id,
        old.created_at,
        old.attempt,
        old.priority,
        old.max_attempts,
        old.queue,
        old.kind,
        old.args,
        old.headers,
        old.traceparent,
        old.saved_cursor,
        old.steps,
        old.workflow_id,
        old.depends_on,
        old.job_group,
        old.unique_key,
        old.unique_rule,
        old.errors
),
inserted AS (
    INSERT INTO outbox.jobs (
        id, run_at, created_at, attempt, priority, max_attempts, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id,
        depends_on, job_group, unique_key, unique_rule, errors)
    SELECT
        id,
        now(),
        created_at,
        attempt,
        CASE WHEN unique_key IS NULL THEN priority ELSE -priority END,
        max_attempts,
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
        errors
    FROM removed
    RETURNING id, queue, run_at, workflow_id, unique_key IS NOT NULL AS is_unsettled
)
SELECT id, queue, run_at, workflow_id, is_unsettled
FROM inserted
