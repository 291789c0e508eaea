-- Claims the due jobs of one queue whose groups take no turns (else claim_in_turn.sql), most urgent priority first, at most @limit, and no more than the
-- limits of the queue leave room for. What is claimed belongs to @worker until it is recorded, released, or the worker's lease ends; every write about
-- it must carry the lease token that is given here.
-- Invariants: the update is HOT (no column it sets stands in an index); each priority is its own range scan, so that what is due tomorrow
-- never hides what is due now; @after_* bounds the scan, so that it need not walk index entries of jobs long gone; a worker that was
-- declared dead claims nothing, nor does a claim of an epoch that was given up (the worker's row is locked against both until this commits);
-- an attempt number at its end stays there: one such row must not fail the claim of its neighbours; and where the queue has limits, what is started is
-- noted before anybody else counts (a CTE that only selects is run because it is read: hence the count).
WITH claimable AS MATERIALIZED (
    SELECT CASE
        WHEN EXISTS (SELECT FROM outbox.paused_kinds) THEN ARRAY(
            SELECT known.kind
            FROM unnest(@kinds::text[]) AS known (kind)
            WHERE NOT EXISTS (SELECT FROM outbox.paused_kinds AS paused WHERE paused.kind = known.kind AND paused.queue IN ('', @queue)))
        ELSE @kinds::text[]
    END AS kinds
),
quota AS MATERIALIZED (
    SELECT
        known.limited,
        CASE
            WHEN kinds = '{}' THEN 0
            WHEN known.paused_at IS NOT NULL OR known.paused_until > now() THEN 0
            WHEN known.limited THEN CASE WHEN outbox.takes_turns(@queue) THEN 0 ELSE outbox.room_in_queue(@queue, @limit) END
            ELSE @limit::integer
        END AS jobs
    FROM claimable
    LEFT JOIN outbox.queues AS known ON known.name = @queue
),
first AS MATERIALIZED (
    SELECT ctid, id
    FROM outbox.jobs
    WHERE queue = @queue
      AND priority = 1
      AND (run_at, id) > ((@after_run_at::timestamptz[])[1], (@after_id::uuid[])[1])
      AND run_at <= now()
      AND lease_token IS NULL
      AND cancel_requested_at IS NULL
      AND (crashes >= 2) = @suspects
      AND kind = ANY ((SELECT kinds FROM claimable)::text[])
    ORDER BY run_at, id
    LIMIT (SELECT jobs FROM quota)
    FOR NO KEY UPDATE SKIP LOCKED
),
second AS MATERIALIZED (
    SELECT ctid, id
    FROM outbox.jobs
    WHERE queue = @queue
      AND priority = 2
      AND (run_at, id) > ((@after_run_at::timestamptz[])[2], (@after_id::uuid[])[2])
      AND run_at <= now()
      AND lease_token IS NULL
      AND cancel_requested_at IS NULL
      AND (crashes >= 2) = @suspects
      AND kind = ANY ((SELECT kinds FROM claimable)::text[])
    ORDER BY run_at, id
    LIMIT (SELECT jobs - (SELECT count(*) FROM first) FROM quota)
    FOR NO KEY UPDATE SKIP LOCKED
),
third AS MATERIALIZED (
    SELECT ctid, id
    FROM outbox.jobs
    WHERE queue = @queue
      AND priority = 3
      AND (run_at, id) > ((@after_run_at::timestamptz[])[3], (@after_id::uuid[])[3])
      AND run_at <= now()
      AND lease_token IS NULL
      AND cancel_requested_at IS NULL
      AND (crashes >= 2) = @suspects
      AND kind = ANY ((SELECT kinds FROM claimable)::text[])
    ORDER BY run_at, id
    LIMIT (SELECT jobs - (SELECT count(*) FROM first) - (SELECT count(*) FROM second) FROM quota)
    FOR NO KEY UPDATE SKIP LOCKED
),
fourth AS MATERIALIZED (
    SELECT ctid, id
    FROM outbox.jobs
    WHERE queue = @queue
      AND priority = 4
      AND (run_at, id) > ((@after_run_at::timestamptz[])[4], (@after_id::uuid[])[4])
      AND run_at <= now()
      AND lease_token IS NULL
      AND cancel_requested_at IS NULL
      AND (crashes >= 2) = @suspects
      AND kind = ANY ((SELECT kinds FROM claimable)::text[])
    ORDER BY run_at, id
    LIMIT (SELECT jobs - (SELECT count(*) FROM first) - (SELECT count(*) FROM second) - (SELECT count(*) FROM third) FROM quota)
    FOR NO KEY UPDATE SKIP LOCKED
),
due_jobs AS MATERIALIZED (
    SELECT ctid, id FROM first
    UNION ALL
    SELECT ctid, id FROM second
    UNION ALL
    SELECT ctid, id FROM third
    UNION ALL
    SELECT ctid, id FROM fourth
),
alive AS MATERIALIZED (
    SELECT id
    FROM outbox.workers
    WHERE id = @worker
      AND dead_at IS NULL
      AND claim_epoch = @epoch
      AND EXISTS (SELECT FROM due_jobs)
    FOR KEY SHARE
),
noted AS MATERIALIZED (
    SELECT outbox.note_started(@queue, ARRAY(SELECT id FROM due_jobs), @lease_token)
    FROM alive
    CROSS JOIN quota
    WHERE quota.limited
)
UPDATE outbox.jobs AS job
SET attempt = least(attempt, 2147483646) + 1,
    lease_token = @lease_token,
    worker_id = alive.id,
    claimed_at = clock_timestamp()
FROM alive
WHERE job.ctid = ANY (ARRAY(SELECT ctid FROM due_jobs))
  AND (SELECT count(*) FROM noted) >= 0
RETURNING
    job.id,
    job.kind,
    job.args,
    job.queue,
    job.priority,
    job.run_at,
    job.created_at,
    job.headers::text,
    job.traceparent,
    job.max_attempts,
    job.failures,
    job.crashes,
    job.attempt,
    job.claimed_at,
    job.saved_cursor::text,
    job.errors::text,
    job.steps::text,
    job.workflow_id,
    job.job_group
