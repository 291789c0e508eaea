-- Compares what was enqueued with a unique key with the others of its key; a bounded part of it (migrations/0006). At READ COMMITTED.
SELECT queues, run_at, released, more
FROM outbox.settle_unique_jobs()
