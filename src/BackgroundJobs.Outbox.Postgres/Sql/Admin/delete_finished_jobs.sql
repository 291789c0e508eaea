-- Removes up to @limit jobs from the history, in the order of their ids, from @after on. For personal data and mistakes: age is dealt with
-- by maintain_history, a day at a time.
WITH finished AS MATERIALIZED (
    SELECT id, finished_at
    FROM outbox.job_history
    WHERE state = ANY (@states::text[])
      AND id > @after::uuid
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
    FOR UPDATE SKIP LOCKED
)
DELETE FROM outbox.job_history AS old
USING finished
WHERE old.id = finished.id
  AND old.finished_at = finished.finished_at
RETURNING old.id, old.queue, old.run_at
