-- Makes true what the ends, retries and new children of these jobs ask for, or, with null, of any; a bounded part of it (migrations/0004).
SELECT queues, run_at, released, more
FROM outbox.settle_jobs(@ids::uuid[])
