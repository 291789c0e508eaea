-- Why: the look for the next jobs of a group, of one priority, went on through all its jobs of the next priorities.

-- Priority as an expression: a condition on it says where the jobs of one priority end, and jobs_ready, in which it is a column, is no way to them.
DROP INDEX outbox.jobs_of_group;
CREATE INDEX jobs_of_group ON outbox.jobs (queue, job_group, (priority::integer), run_at, id) WHERE job_group IS NOT NULL AND priority > 0;

-- As before, but not by a comparison of rows: that one ends a scan of an index by its first column alone, the group.
CREATE OR REPLACE FUNCTION outbox.due_in_group(queue text, job_group text, after_run_at timestamptz[], after_id uuid[])
RETURNS TABLE (place tid, id uuid, priority smallint, run_at timestamptz, kind text, is_suspect boolean)
LANGUAGE sql STABLE
AS $$
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND job.priority::integer = 1
          AND (job.run_at, job.id) >= ($3[1], $4[1])
          AND job.run_at <= now()
          AND job.priority > 0
          AND $2 <> ''
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND job.priority::integer = 2
          AND (job.run_at, job.id) >= ($3[2], $4[2])
          AND job.run_at <= now()
          AND job.priority > 0
          AND $2 <> ''
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND job.priority::integer = 3
          AND (job.run_at, job.id) >= ($3[3], $4[3])
          AND job.run_at <= now()
          AND job.priority > 0
          AND $2 <> ''
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND job.priority::integer = 4
          AND (job.run_at, job.id) >= ($3[4], $4[4])
          AND job.run_at <= now()
          AND job.priority > 0
          AND $2 <> ''
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND coalesce(job.job_group, '') = ''
          AND $2 = ''
          AND job.priority = 1
          AND (job.run_at, job.id) >= ($3[1], $4[1])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND coalesce(job.job_group, '') = ''
          AND $2 = ''
          AND job.priority = 2
          AND (job.run_at, job.id) >= ($3[2], $4[2])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND coalesce(job.job_group, '') = ''
          AND $2 = ''
          AND job.priority = 3
          AND (job.run_at, job.id) >= ($3[3], $4[3])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND coalesce(job.job_group, '') = ''
          AND $2 = ''
          AND job.priority = 4
          AND (job.run_at, job.id) >= ($3[4], $4[4])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
$$;
