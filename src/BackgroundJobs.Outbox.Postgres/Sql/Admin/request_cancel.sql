-- Asks for the cancel of up to @limit jobs that a worker holds; its next beat passes it on to their handlers.
-- Invariants: a job that is being claimed or given back right now does not slip through, so this waits for such short statements; but only
-- for @patience (such as 500ms, else it fails), because a handler's own transaction, which is ending its job then, may hold a row for long.
-- An array and no join: joined, a row whose claim was waited for was at times left out when it was looked at again (seen, not explained).
-- Without patience rows of running jobs that somebody has locked are passed over.
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', coalesce(@patience::text, current_setting('lock_timeout')), true)
),
running AS MATERIALIZED (
    SELECT id
    FROM outbox.jobs
    WHERE @patience::text IS NULL
      AND lease_token IS NOT NULL
      AND cancel_requested_at IS NULL
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
    FOR NO KEY UPDATE SKIP LOCKED
),
waited_for AS MATERIALIZED (
    SELECT id
    FROM outbox.jobs
    WHERE (@patience::text IS NOT NULL OR lease_token IS NULL)
      AND cancel_requested_at IS NULL
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
),
left_over AS (
    SELECT id
    FROM running
    UNION ALL
    SELECT id
    FROM waited_for
    CROSS JOIN patience
)
UPDATE outbox.jobs AS job
SET cancel_requested_at = now()
WHERE job.id = ANY (ARRAY(SELECT id FROM left_over))
  AND job.cancel_requested_at IS NULL
RETURNING
    job.id,
    job.queue,
    job.run_at,
    job.lease_token IS NOT NULL AS claimed
