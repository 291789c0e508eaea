-- Why: a job that runs adds others to its workflow, and what waits for it is to wait for those too: a batch that grows while it runs. And a retry of a
-- parent brought back none of those that a settlement cancelled because of it at that moment.

-- job_id: what was added. alongside_id: the job that ran when it was added. What waits for that one, be it in order to run on its success or always,
-- waits from its end on for this one, in the same way (settle_jobs). Kept as long as either may come back (forget_alongside_jobs.sql).
CREATE TABLE outbox.alongside_jobs (
    job_id       uuid NOT NULL,
    alongside_id uuid NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT alongside_jobs_pkey PRIMARY KEY (job_id)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX alongside_jobs_alongside ON outbox.alongside_jobs (alongside_id);

-- What has depends_on and is not blocked names the job that runs as {"<its id>": "alongside"}. It waits for nobody, so no circle can be made.
CREATE FUNCTION outbox.note_alongside_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Its plans are kept by the session: they must not be those of an empty table.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    running uuid;
BEGIN
    -- One that comes back was looked at when it was enqueued.
    IF NEW.created_at < now() THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(NEW.depends_on) = 'object' AND NEW.workflow_id IS NOT NULL THEN
        SELECT CASE WHEN count(*) = 1 AND min(parent.value) = 'alongside' THEN min(parent.key)::uuid END
        INTO running
        FROM jsonb_each_text(NEW.depends_on) AS parent;
    END IF;
    IF running IS NULL THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its priority % lets it run at once, and it is to wait for other jobs, or alongside one of no workflow', NEW.id, NEW.priority
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give it a priority of -4 to -1; or workflow_id, and {"<id of a job that runs>": "alongside"} as depends_on.';
    END IF;

    -- Invariant: its end is recorded after this transaction or by it, and never beside it. So who is told of that end finds this job.
    PERFORM
    FROM outbox.jobs AS job
    WHERE job.id = running
      AND job.workflow_id = NEW.workflow_id
      AND job.lease_token IS NOT NULL
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Job % cannot be added alongside job % of workflow %, which does not run', NEW.id, running, NEW.workflow_id
            USING ERRCODE = 'OB001', HINT = 'Roll back: the lease of its attempt ended, and another one may be running.';
    END IF;
    INSERT INTO outbox.alongside_jobs (job_id, alongside_id) VALUES (NEW.id, running);
    RETURN NULL;
END
$$;

-- AFTER: as for jobs_note_blocked.
CREATE TRIGGER jobs_note_alongside
AFTER INSERT ON outbox.jobs
FOR EACH ROW WHEN (NEW.depends_on IS NOT NULL AND NEW.priority > 0) EXECUTE FUNCTION outbox.note_alongside_job();

CREATE OR REPLACE FUNCTION outbox.settle_jobs(ids uuid[], OUT queues text[], OUT run_at timestamptz[], OUT released integer, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET lock_timeout = '200ms'
AS $$
#variable_conflict use_column
DECLARE
    noted    uuid[];
    waiting  uuid[];
    parents  uuid[];
    freed    uuid[];
    states   jsonb;
    given_up integer;
    joined   integer;
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
    -- What ran alongside a parent that has ended is waited for from here on. It may have ended itself: looked at after this commit.
    joined AS (
        INSERT INTO outbox.job_waits (job_id, parent_id, run_on)
        SELECT decided.job_id, alongside.job_id, decided.run_on
        FROM decided
        JOIN judged ON judged.job_id = decided.job_id AND judged.parent_id IS NULL
        JOIN outbox.alongside_jobs AS alongside ON alongside.alongside_id = decided.parent_id
        WHERE decided.run_on <> 'failure'
        ON CONFLICT DO NOTHING
        RETURNING job_id
    ),
    noted_again AS (
        INSERT INTO outbox.unsettled_jobs (job_id)
        SELECT DISTINCT job_id
        FROM joined
        RETURNING job_id
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
        (SELECT count(*) FROM noted_again),
        ARRAY(SELECT job_id FROM judged WHERE judged.parent_id IS NULL)
    INTO given_up, joined, freed;
    more := more OR given_up > 0 OR joined > 0;

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

-- Until none is found: one that a settlement cancels at this moment, because its parent had given up, is waited for by the lock of those that are still
-- blocked, and only then found in the history.
CREATE OR REPLACE FUNCTION outbox.bring_back_children(ids uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    workflows uuid[] := ARRAY(SELECT DISTINCT workflow_id FROM outbox.jobs WHERE id = ANY (bring_back_children.ids) AND workflow_id IS NOT NULL ORDER BY workflow_id);
    all_back  uuid[] := bring_back_children.ids;
    found     uuid[];
BEGIN
    -- Two retries in one workflow: the second must see what the first has brought back.
    PERFORM pg_advisory_xact_lock(hashtextextended(workflow.id::text, 0))
    FROM unnest(workflows) AS workflow (id);

    LOOP
        -- Of those that are still blocked some may have been told of the old ends: of a parent's, or of one that ran alongside it.
        WITH RECURSIVE awaited AS (
            SELECT back.id AS job_id, back.id AS parent_id
            FROM unnest(all_back) AS back (id)
            UNION
            SELECT awaited.job_id, alongside.alongside_id
            FROM awaited
            JOIN outbox.alongside_jobs AS alongside ON alongside.job_id = awaited.parent_id
        ),
        blocked AS MATERIALIZED (
            SELECT job.id, job.depends_on
            FROM outbox.jobs AS job
            WHERE job.workflow_id = ANY (workflows)
              AND job.priority < 0
              AND job.depends_on ?| ARRAY(SELECT DISTINCT parent_id::text FROM awaited)
            ORDER BY job.id
            FOR UPDATE
        ),
        waits AS (
            INSERT INTO outbox.job_waits (job_id, parent_id, run_on)
            SELECT DISTINCT ON (blocked.id, awaited.job_id) blocked.id, awaited.job_id, blocked.depends_on ->> awaited.parent_id::text
            FROM blocked
            JOIN awaited ON blocked.depends_on ? awaited.parent_id::text
            WHERE awaited.job_id = awaited.parent_id
               OR blocked.depends_on ->> awaited.parent_id::text <> 'failure'
            ORDER BY blocked.id, awaited.job_id, awaited.job_id <> awaited.parent_id
            ON CONFLICT DO NOTHING
            RETURNING job_id
        )
        INSERT INTO outbox.unsettled_jobs (job_id)
        SELECT DISTINCT job_id
        FROM waits;

        -- Who was cancelled, and for whom it had waited: for its parents, and for what ran alongside them.
        WITH RECURSIVE edges AS (
            SELECT past.id, parent.key::uuid AS parent_id, parent.value AS run_on
            FROM outbox.job_history AS past
            CROSS JOIN LATERAL jsonb_each_text(past.depends_on) AS parent
            WHERE past.workflow_id = ANY (workflows)
              AND past.state = 'cancelled'
              AND past.args IS NOT NULL
              AND past.errors -> -1 ->> 'type' = 'parent'
            UNION
            SELECT edges.id, alongside.job_id, edges.run_on
            FROM edges
            JOIN outbox.alongside_jobs AS alongside ON alongside.alongside_id = edges.parent_id
            WHERE edges.run_on <> 'failure'
        ),
        returning_jobs AS (
            SELECT unnest(all_back) AS id
            UNION
            SELECT edges.id
            FROM returning_jobs
            JOIN edges ON edges.parent_id = returning_jobs.id
        ),
        back AS (
            DELETE FROM outbox.job_history AS past
            USING returning_jobs
            WHERE past.id = returning_jobs.id
            RETURNING
                past.id, past.created_at, past.run_at, past.attempt, past.priority, past.max_attempts, past.queue, past.kind, past.args, past.headers,
                past.traceparent, past.saved_cursor, past.steps, past.workflow_id, past.depends_on, past.job_group, past.errors
        ),
        inserted AS (
            INSERT INTO outbox.jobs (
                id, created_at, run_at, attempt, priority, max_attempts, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id,
                depends_on, job_group, errors)
            SELECT
                id, created_at, run_at, attempt, -priority, max_attempts, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id,
                depends_on, job_group, errors
            FROM back
            RETURNING id
        )
        SELECT array_agg(id)
        INTO found
        FROM inserted;
        EXIT WHEN found IS NULL;
        all_back := all_back || found;
    END LOOP;
END
$$;
