-- The last word of a worker that holds nothing any more.
DELETE FROM outbox.workers
WHERE id = @worker
