-- The worker processes: since when, how much they run, of which queues, and how long their lease lasts if they never beat again.
-- Bounded: 1,000 rows of a table that holds one per process.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

SELECT
    id,
    name,
    host,
    process_id,
    version,
    started_at,
    heartbeat_at,
    heartbeat_at + lease - clock_timestamp() AS lease_left,
    running,
    stuck,
    stopping,
    dead_at,
    queues,
    kinds
FROM outbox.workers
ORDER BY started_at
LIMIT 1000;

COMMIT;
