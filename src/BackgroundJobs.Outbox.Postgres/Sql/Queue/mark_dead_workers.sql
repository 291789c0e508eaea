-- Declares workers dead whose lease has ended, by the database's clock.
-- Invariant: the lock conflicts with that of a claim and of a beat, so that after it none of theirs is under way and none can follow.
WITH expired AS (
    SELECT id
    FROM outbox.workers
    WHERE dead_at IS NULL
      AND heartbeat_at < clock_timestamp() - lease
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox.workers AS worker
SET dead_at = clock_timestamp()
FROM expired
WHERE worker.id = expired.id
