-- Why: a parent that an operator retried, and that then completed, between two statements of settle_jobs counted as deleted, and its child was
-- cancelled. Which parents have ended, and how, is now read by one statement, after the lock of their children, and what was read decides.

CREATE OR REPLACE FUNCTION outbox.settle_jobs(ids uuid[], OUT queues text[], OUT run_at timestamptz[], OUT released integer, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    noted    uuid[];
    waiting  uuid[];
    parents  uuid[];
    freed    uuid[];
    states   jsonb;
    given_up integer;
BEGIN
    released := 0;
    WITH notes AS MATERIALIZED (
        SELECT ctid
        FROM outbox.unsettled_jobs
        WHERE settle_jobs.ids IS NULL OR job_id = ANY (settle_jobs.ids)
        LIMIT 500
        FOR UPDATE SKIP LOCKED
    ),
    taken AS (
        DELETE FROM outbox.unsettled_jobs
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM notes))
        RETURNING job_id
    )
    SELECT array_agg(DISTINCT job_id), count(*) = 500
    INTO noted, more
    FROM taken;
    IF noted IS NULL THEN
        RETURN;
    END IF;

    SELECT array_agg(job_id), array_agg(parent_id)
    INTO waiting, parents
    FROM (
        SELECT job_id, parent_id
        FROM (
            SELECT job_id, parent_id FROM outbox.job_waits WHERE parent_id = ANY (noted)
            UNION
            SELECT job_id, parent_id FROM outbox.job_waits WHERE job_id = ANY (noted)
        ) AS around
        WHERE NOT EXISTS (SELECT FROM outbox.jobs AS parent WHERE parent.id = around.parent_id)
        LIMIT 5000
    ) AS decidable;
    IF waiting IS NULL THEN
        RETURN;
    END IF;
    IF cardinality(waiting) = 5000 THEN
        more := true;
        INSERT INTO outbox.unsettled_jobs (job_id)
        SELECT unnest(noted);
    END IF;

    PERFORM
    FROM outbox.jobs
    WHERE id = ANY (waiting)
    ORDER BY id
    FOR UPDATE;

    -- Of each parent once. A retry of one that had ended waits for our locks from here on.
    SELECT jsonb_object_agg(
        gone.parent_id,
        coalesce((
            SELECT past.state
            FROM outbox.job_history AS past
            WHERE past.id = gone.parent_id
            ORDER BY past.finished_at DESC
            LIMIT 1), 'deleted'))
    INTO states
    FROM (SELECT DISTINCT unnest(parents) AS parent_id) AS gone
    WHERE NOT EXISTS (SELECT FROM outbox.jobs AS parent WHERE parent.id = gone.parent_id);

    WITH decided AS (
        DELETE FROM outbox.job_waits AS wait
        USING unnest(waiting, parents) AS each (job_id, parent_id)
        WHERE wait.job_id = each.job_id
          AND wait.parent_id = each.parent_id
          AND states ? each.parent_id::text
        RETURNING wait.job_id, wait.parent_id, wait.run_on
    ),
    judged AS MATERIALIZED (
        SELECT
            job_id,
            (array_agg(parent_id ORDER BY parent_id) FILTER (WHERE refuses))[1] AS parent_id,
            (array_agg(run_on ORDER BY parent_id) FILTER (WHERE refuses))[1] AS run_on
        FROM (
            SELECT
                job_id,
                parent_id,
                run_on,
                CASE run_on
                    WHEN 'success' THEN states ->> parent_id::text <> 'completed'
                    WHEN 'failure' THEN states ->> parent_id::text = 'completed'
                    ELSE false
                END AS refuses
            FROM decided
        ) AS each_wait
        GROUP BY job_id
    ),
    removed AS (
        DELETE FROM outbox.jobs AS job
        USING judged
        WHERE judged.parent_id IS NOT NULL
          AND job.id = judged.job_id
        RETURNING
            job.id,
            job.run_at,
            job.created_at,
            job.attempt,
            job.priority,
            job.max_attempts,
            job.failures,
            job.crashes,
            job.queue,
            job.kind,
            job.args,
            job.headers,
            job.traceparent,
            job.saved_cursor,
            job.steps,
            job.workflow_id,
            job.depends_on,
            job.job_group,
            job.errors,
            judged.parent_id,
            judged.run_on
    ),
    remembered AS (
        INSERT INTO outbox.job_history (
            id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes,
            state, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id, depends_on, job_group, errors)
        SELECT
            id,
            clock_timestamp(),
            run_at,
            created_at,
            attempt,
            abs(priority),
            max_attempts,
            failures,
            crashes,
            'cancelled',
            queue,
            kind,
            args,
            headers,
            traceparent,
            saved_cursor,
            steps,
            workflow_id,
            depends_on,
            job_group,
            CASE WHEN jsonb_array_length(errors) >= 5 THEN errors - 0 ELSE coalesce(errors, '[]') END || jsonb_build_object(
                'attempt', attempt,
                'type', 'parent',
                'message', format('Its parent %s is %s, and it was to run on %s. When that job is retried, this one comes back.', parent_id, states ->> parent_id::text, run_on),
                'at', clock_timestamp())
        FROM removed
        RETURNING id
    )
    SELECT
        (SELECT count(*) FROM remembered),
        ARRAY(SELECT job_id FROM judged WHERE judged.parent_id IS NULL)
    INTO given_up, freed;
    more := more OR given_up > 0;

    WITH free AS (
        UPDATE outbox.jobs AS job
        SET priority = -job.priority,
            run_at = greatest(job.run_at, clock_timestamp())
        WHERE job.id = ANY (freed)
          AND job.priority < 0
          AND NOT EXISTS (SELECT FROM outbox.job_waits AS wait WHERE wait.job_id = job.id)
        RETURNING job.queue, job.run_at
    ),
    by_queue AS (
        SELECT free.queue, min(free.run_at) AS run_at, count(*) AS jobs
        FROM free
        GROUP BY free.queue
    )
    SELECT array_agg(by_queue.queue::text), array_agg(by_queue.run_at), coalesce(sum(by_queue.jobs), 0)
    INTO queues, run_at, released
    FROM by_queue;
END
$$;
