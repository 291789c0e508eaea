-- Declares workers dead whose lease has ended, by the database's clock. A heartbeat that lies in the future was told by a clock that has been
-- set back since: it counts from now, or a dead worker would keep its jobs until the clock is there again. A living one beats anew anyhow.
-- Invariant: the lock conflicts with that of a claim and of a beat, so that after it none of theirs is under way and none can follow.
WITH expired AS (
    SELECT id, heartbeat_at > clock_timestamp() AS was_set_back
    FROM outbox.workers
    WHERE dead_at IS NULL
      AND heartbeat_at NOT BETWEEN clock_timestamp() - lease AND clock_timestamp()
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox.workers AS worker
SET dead_at = CASE WHEN NOT expired.was_set_back THEN clock_timestamp() END,
    heartbeat_at = least(worker.heartbeat_at, clock_timestamp())
FROM expired
WHERE worker.id = expired.id
