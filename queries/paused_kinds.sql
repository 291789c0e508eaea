-- The kinds that an operator has paused, and where: in one queue, or in all.
-- Bounded: 1,000 rows of a table that holds one for each pause.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

SELECT
    kind,
    nullif(queue, '') AS queue,
    paused_at,
    paused_by,
    pause_reason
FROM outbox.paused_kinds
ORDER BY paused_at, kind, queue
LIMIT 1000;

COMMIT;
