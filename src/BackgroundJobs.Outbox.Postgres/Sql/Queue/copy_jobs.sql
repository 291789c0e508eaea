-- Many jobs at once, in the caller's transaction. run_at is given: COPY has no expression for "now and a delay" (transaction_time.sql).
COPY outbox.jobs (id, kind, args, queue, priority, run_at, max_attempts, headers, traceparent, workflow_id, depends_on, job_group, unique_key, unique_rule) FROM STDIN (FORMAT binary)
