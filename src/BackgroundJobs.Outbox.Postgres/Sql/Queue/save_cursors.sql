-- Keeps the cursors and the progress of running jobs, so that a crash costs at most a second or two of their work.
-- Invariant: fenced, and the rows are found by their keys alone (use_key.sql).
UPDATE outbox.jobs AS job
SET saved_cursor = coalesce(running.saved_cursor::jsonb, job.saved_cursor),
    progress = coalesce(running.progress::jsonb, job.progress)
FROM unnest(@ids::uuid[], @lease_tokens::uuid[], @cursors::text[], @progress::text[])
    AS running (id, lease_token, saved_cursor, progress)
WHERE job.id = ANY (@ids::uuid[])
  AND job.id = running.id
  AND job.lease_token = running.lease_token
