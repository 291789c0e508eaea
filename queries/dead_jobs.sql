-- What gave up (dead or cancelled), newest first, with its last error; without what met another job (unique_jobs.sql). Bounded: 100 rows, by an
-- index that holds nothing else.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

SELECT
    id,
    state,
    queue,
    kind,
    finished_at,
    attempt,
    failures,
    crashes,
    errors -> -1 ->> 'type' AS error_type,
    left(errors -> -1 ->> 'message', 500) AS error_message
FROM outbox.job_history
WHERE state <> 'completed'
  AND met_id IS NULL
ORDER BY finished_at DESC
LIMIT 100;

COMMIT;
