-- What was not run because of another job with its unique key, newest first, and which one that was. Bounded: 100 rows, by an index that holds
-- nothing else.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

SELECT
    id AS job_id,
    kind,
    unique_key,
    unique_rule ->> 'rule' AS rule,
    met_id,
    created_at,
    finished_at AS met_at
FROM outbox.job_history
WHERE met_id IS NOT NULL
ORDER BY finished_at DESC
LIMIT 100;

COMMIT;
