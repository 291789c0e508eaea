-- Makes the claims void that a worker sent under earlier epochs and never had an answer to: one that is under way ends first, and one that
-- still comes, from a connection that the worker has given up, claims nothing. Committed before what they brought is given back.
-- Invariant: FOR UPDATE, not the weaker lock of a plain update, or a claim would neither wait for this nor see it.
WITH worker AS (
    SELECT id
    FROM outbox.workers
    WHERE id = @worker
    FOR UPDATE
)
UPDATE outbox.workers
SET claim_epoch = @epoch
FROM worker
WHERE workers.id = worker.id
