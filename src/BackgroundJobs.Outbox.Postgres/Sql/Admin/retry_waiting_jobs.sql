-- Makes up to @limit jobs that wait for their next attempt due at once, in the order of their ids, from @after on.
-- Invariant: no job that a worker holds; SKIP LOCKED leaves those alone that are being claimed right now.
WITH retrying AS MATERIALIZED (
    SELECT id
    FROM outbox.jobs
    WHERE lease_token IS NULL
      AND failures > 0
      AND priority > 0
      AND run_at > now()
      AND id > @after::uuid
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
)
UPDATE outbox.jobs AS job
SET run_at = now()
FROM retrying
WHERE job.id = retrying.id
  AND job.lease_token IS NULL
RETURNING job.id, job.queue, job.run_at, job.job_group
