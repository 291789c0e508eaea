-- Keeps the cursors and the progress of running jobs, so that a crash costs at most a second or two of their work.
-- Invariant: fenced, and the rows are found by their keys alone (use_key.sql). Nobody waits for a row that is held, by a long transaction of its
-- handler perhaps: what it has said by then is kept with its next word, or its end.
UPDATE outbox.jobs AS job
SET saved_cursor = coalesce(running.saved_cursor::jsonb, job.saved_cursor),
    progress = coalesce(running.progress::jsonb, job.progress)
FROM unnest(@ids::uuid[], @lease_tokens::uuid[], @cursors::text[], @progress::text[])
    AS running (id, lease_token, saved_cursor, progress)
WHERE job.id = ANY (ARRAY(
    SELECT free.id
    FROM outbox.jobs AS free
    WHERE free.id = ANY (@ids::uuid[])
    FOR NO KEY UPDATE SKIP LOCKED))
  AND job.id = running.id
  AND job.lease_token = running.lease_token
