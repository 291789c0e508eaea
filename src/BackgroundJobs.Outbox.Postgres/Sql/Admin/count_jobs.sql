-- How many jobs a filter means, unfinished and finished. Stops counting at @limit.
SELECT count(*)
FROM (
    SELECT
    FROM outbox.all_jobs
    WHERE state = ANY (@states::text[])
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
    LIMIT @limit::bigint
) AS found
