-- The last step of a rescue: their jobs are released, so nothing names these workers any more.
DELETE FROM outbox.workers
WHERE dead_at IS NOT NULL
