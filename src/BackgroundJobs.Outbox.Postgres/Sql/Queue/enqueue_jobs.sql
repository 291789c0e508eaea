-- Inserts jobs in the caller's transaction, in one statement whatever their number; returns the oldest run_at of each queue for the wake-up.
WITH new_jobs AS (
    INSERT INTO outbox.jobs (
        id, kind, args, queue, priority, run_at, max_attempts, headers, traceparent, workflow_id, depends_on, job_group, unique_key, unique_rule)
    SELECT
        id,
        kind,
        args::jsonb,
        queue,
        priority,
        coalesce(run_at, now() + coalesce(delay, 0) * interval '1 microsecond'),
        max_attempts,
        headers::jsonb,
        traceparent,
        workflow_id,
        depends_on::jsonb,
        job_group,
        unique_key,
        unique_rule::jsonb
    FROM unnest(
        @ids::uuid[], @kinds::text[], @args::text[], @queues::text[], @priorities::smallint[], @run_at::timestamptz[],
        @delays::bigint[], @max_attempts::smallint[], @headers::text[], @traceparents::text[], @workflow_ids::uuid[], @depends_on::text[],
        @groups::text[], @unique_keys::text[], @unique_rules::text[])
        AS t (id, kind, args, queue, priority, run_at, delay, max_attempts, headers, traceparent, workflow_id, depends_on, job_group,
            unique_key, unique_rule)
    RETURNING queue, run_at
)
SELECT queue, min(run_at) AS run_at
FROM new_jobs
GROUP BY queue
