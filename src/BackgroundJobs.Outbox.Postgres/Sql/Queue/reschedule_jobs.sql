-- Gives claimed jobs back to their queue: after a failure, a snooze, or a graceful stop. Returns what was given back; an id that is missing
-- was not ours any more.
-- Invariant: fenced, and the rows are found by their keys alone (use_key.sql).
-- @delays in microseconds from the database's now; null keeps run_at, so that an interrupted job is as due as it was.
WITH ended AS (
    SELECT *
    FROM unnest(@ids::uuid[], @lease_tokens::uuid[], @delays::bigint[], @failed::smallint[], @errors::text[], @cursors::text[])
        AS t (id, lease_token, delay, failed, error, saved_cursor)
)
UPDATE outbox.jobs AS job
SET run_at = coalesce(clock_timestamp() + ended.delay * interval '1 microsecond', job.run_at),
    failures = least(job.failures, 32766) + ended.failed,
    errors = CASE
        WHEN ended.error IS NULL THEN job.errors
        ELSE CASE WHEN jsonb_array_length(job.errors) >= 5 THEN job.errors - 0 ELSE coalesce(job.errors, '[]') END
             || (ended.error::jsonb || jsonb_build_object('at', clock_timestamp()))
    END,
    saved_cursor = coalesce(ended.saved_cursor::jsonb, job.saved_cursor),
    lease_token = NULL,
    worker_id = NULL,
    claimed_at = NULL
FROM ended
WHERE job.id = ANY (@ids::uuid[])
  AND job.id = ended.id
  AND job.lease_token = ended.lease_token
RETURNING job.id, job.queue, job.run_at
