-- What operators did, newest first: who, when, which verb, how many jobs, and which were meant (the filter's properties; of ids the first hundred).
-- Bounded: 200 rows by an index.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;

SELECT
    at,
    actor,
    verb,
    jobs,
    what::text AS what
FROM outbox.operations
ORDER BY at DESC
LIMIT 200;

COMMIT;
