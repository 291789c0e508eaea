-- Removes up to @limit jobs that no worker holds, without a trace, in the order of their ids, from @after on.
-- Invariant: never a claimed job; what is being claimed right now is skipped.
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
)
DELETE FROM outbox.jobs AS job
USING unclaimed
WHERE job.id = unclaimed.id
  AND job.lease_token IS NULL
RETURNING job.id, job.queue, job.run_at, job.job_group
