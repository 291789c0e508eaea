-- The same as settle_jobs.sql, each job that waits by itself: where that has failed (migrations/0016).
SELECT queues, run_at, released, more, held_up, error
FROM outbox.settle_jobs_apart()
