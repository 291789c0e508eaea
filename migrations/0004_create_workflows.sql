-- Why: jobs that wait for other jobs.

-- A job that waits for others is blocked: its priority is negative, so that no claim sees it and jobs_ready does not hold it. When the last
-- of its parents has ended it gets its priority back. Not validated: what is there was inserted under the narrower constraint.
ALTER DOMAIN outbox.job_priority DROP CONSTRAINT job_priority_is_1_to_4;
ALTER DOMAIN outbox.job_priority
    ADD CONSTRAINT job_priority_is_1_to_4 CHECK (VALUE BETWEEN 1 AND 4 OR VALUE BETWEEN -4 AND -1) NOT VALID;

-- depends_on: {"<parent's id>": "success" | "failure" | "always", ...}; stays with the job, so that a retry of a parent can bring it back.
-- Not the domain of other objects: a new column with a check would make PostgreSQL write the whole table anew.
ALTER TABLE outbox.jobs
    ADD COLUMN workflow_id uuid,
    ADD COLUMN depends_on jsonb;

ALTER TABLE outbox.job_history
    ADD COLUMN workflow_id uuid,
    ADD COLUMN depends_on jsonb,
    ADD COLUMN result jsonb;

-- For the progress of one workflow, and for the retry of a parent. Nothing of it is written for a plain job.
CREATE INDEX jobs_workflow ON outbox.jobs (workflow_id, id) WHERE workflow_id IS NOT NULL;
CREATE INDEX job_history_workflow ON outbox.job_history (workflow_id, state) WHERE workflow_id IS NOT NULL;

-- Who still waits for whom. A row goes when its parent has ended, or its job.
CREATE TABLE outbox.job_waits (
    job_id    uuid NOT NULL,
    parent_id uuid NOT NULL,
    run_on    text COLLATE "C" NOT NULL,
    CONSTRAINT job_waits_pkey PRIMARY KEY (job_id, parent_id),
    CONSTRAINT job_waits_run_on_is_success_failure_or_always CHECK (run_on IN ('success', 'failure', 'always'))
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX job_waits_parent ON outbox.job_waits (parent_id);

-- Jobs around which something has changed that settle_jobs is to look at. Written in the transaction of the change, by whomever, and without
-- waiting for anybody; a settlement that was lost is made up for by the next.
CREATE TABLE outbox.unsettled_jobs (
    job_id uuid NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX unsettled_jobs_job ON outbox.unsettled_jobs (job_id);

-- A blocked job waits for its parents, which are there before it: so no circle can be made. In one statement the smaller id comes first.
-- With the owner's rights: who enqueues needs nothing but the right to insert jobs.
CREATE FUNCTION outbox.note_blocked_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Its plans are kept by the session: they must not be those of an empty table.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    unknown text;
    circle  text;
    others  boolean;
BEGIN
    IF NEW.workflow_id IS NULL OR NEW.depends_on IS NULL OR jsonb_typeof(NEW.depends_on) <> 'object' OR NEW.depends_on = '{}' THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its priority % says that it is blocked, and it has no workflow or no parents', NEW.id, NEW.priority
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give workflow_id and depends_on, or a priority of 1 to 4.';
    END IF;

    INSERT INTO outbox.job_waits (job_id, parent_id, run_on)
    SELECT NEW.id, key::uuid, value
    FROM jsonb_each_text(NEW.depends_on);

    -- A retry of a parent looks for its id among these.
    IF EXISTS (SELECT FROM jsonb_object_keys(NEW.depends_on) AS key WHERE key <> key::uuid::text) THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: it does not name its parents as PostgreSQL writes a uuid', NEW.id
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use lower case, and no braces.';
    END IF;

    SELECT
        string_agg(wait.parent_id::text, ', ') FILTER (WHERE wait.inserted IS NULL AND NOT wait.ended),
        string_agg(wait.parent_id::text, ', ') FILTER (WHERE wait.parent_id >= NEW.id AND wait.inserted = (
            SELECT ARRAY[own.xmin::text, own.cmin::text]
            FROM outbox.jobs AS own
            WHERE own.id = NEW.id)),
        bool_or(wait.inserted[1] IS DISTINCT FROM pg_current_xact_id()::xid::text)
    INTO unknown, circle, others
    FROM (
        SELECT
            key::uuid AS parent_id,
            (
                SELECT ARRAY[job.xmin::text, job.cmin::text]
                FROM outbox.jobs AS job
                WHERE job.id = key::uuid
                  AND job.workflow_id = NEW.workflow_id
            ) AS inserted,
            EXISTS (
                SELECT
                FROM outbox.job_history AS past
                WHERE past.id = key::uuid
                  AND past.workflow_id = NEW.workflow_id
            ) AS ended
        FROM jsonb_object_keys(NEW.depends_on) AS key
        OFFSET 0
    ) AS wait;

    -- One that comes back with its parent was looked at when it was enqueued; a parent that is forgotten meanwhile cancels it again.
    IF NEW.created_at >= now() AND unknown IS NOT NULL THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its workflow % has no job %', NEW.id, NEW.workflow_id, unknown
            USING ERRCODE = 'OB002', HINT = 'Enqueue parents before their children, in the same workflow.';
    END IF;
    IF NEW.created_at >= now() AND circle IS NOT NULL THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: it would wait for job %, which may wait for it', NEW.id, circle
            USING ERRCODE = 'OB002', HINT = 'In one statement, parents have smaller ids than their children.';
    END IF;

    -- A parent of another transaction may end at this moment, or have ended.
    IF others THEN
        INSERT INTO outbox.unsettled_jobs (job_id) VALUES (NEW.id);
    END IF;
    RETURN NULL;
END
$$;

-- AFTER: a trigger before the insert, even one that never fires, makes COPY insert row by row.
CREATE TRIGGER jobs_note_blocked
AFTER INSERT ON outbox.jobs
FOR EACH ROW WHEN (NEW.priority < 0) EXECUTE FUNCTION outbox.note_blocked_job();

-- Whatever ends a job of a workflow, by hand too: no child is left waiting.
CREATE FUNCTION outbox.note_ended_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO outbox.unsettled_jobs (job_id) VALUES (OLD.id);
    IF OLD.priority < 0 THEN
        DELETE FROM outbox.job_waits WHERE job_id = OLD.id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER jobs_note_ended
AFTER DELETE ON outbox.jobs
FOR EACH ROW WHEN (OLD.workflow_id IS NOT NULL) EXECUTE FUNCTION outbox.note_ended_job();

-- Makes true around some jobs what their ends and their new children ask for: a blocked job whose last parent has ended as it wished waits for
-- a worker; one of whose parents ended otherwise is cancelled.
-- With ids, of these jobs; with null, of any. Bounded: 500 jobs and 5,000 waits at a time. Safe for any number of callers at once: they lock
-- blocked jobs in the order of their ids, and look at the waits only then. more: there is something left, or new.
-- queues, run_at: what can be claimed now, for the wake-up.
CREATE FUNCTION outbox.settle_jobs(ids uuid[], OUT queues text[], OUT run_at timestamptz[], OUT released integer, OUT more boolean)
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
    FROM (SELECT DISTINCT unnest(parents) AS parent_id) AS gone;

    WITH decided AS (
        DELETE FROM outbox.job_waits AS wait
        USING unnest(waiting, parents) AS each (job_id, parent_id)
        WHERE wait.job_id = each.job_id
          AND wait.parent_id = each.parent_id
          AND NOT EXISTS (SELECT FROM outbox.jobs AS parent WHERE parent.id = each.parent_id)
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
            job.errors,
            judged.parent_id,
            judged.run_on
    ),
    remembered AS (
        INSERT INTO outbox.job_history (
            id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes,
            state, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id, depends_on, errors)
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

-- For the transaction that retries jobs: children that were cancelled because of them are blocked again, and so on down, all at once, so that
-- none sees another as it was before; those that are still blocked wait again for all that comes back. What has run has run.
CREATE FUNCTION outbox.bring_back_children(ids uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    workflows uuid[] := ARRAY(SELECT DISTINCT workflow_id FROM outbox.jobs WHERE id = ANY (bring_back_children.ids) AND workflow_id IS NOT NULL ORDER BY workflow_id);
    all_back  uuid[];
BEGIN
    -- Two retries in one workflow: the second must see what the first has brought back.
    PERFORM pg_advisory_xact_lock(hashtextextended(workflow.id::text, 0))
    FROM unnest(workflows) AS workflow (id);

    WITH RECURSIVE edges AS MATERIALIZED (
        SELECT past.id, key::uuid AS parent_id
        FROM outbox.job_history AS past
        CROSS JOIN LATERAL jsonb_object_keys(past.depends_on) AS key
        WHERE past.workflow_id = ANY (workflows)
          AND past.state = 'cancelled'
          AND past.args IS NOT NULL
          AND past.errors -> -1 ->> 'type' = 'parent'
    ),
    returning_jobs AS (
        SELECT unnest(bring_back_children.ids) AS id
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
            past.traceparent, past.saved_cursor, past.steps, past.workflow_id, past.depends_on, past.errors
    ),
    inserted AS (
        INSERT INTO outbox.jobs (
            id, created_at, run_at, attempt, priority, max_attempts, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id,
            depends_on, errors)
        SELECT
            id, created_at, run_at, attempt, -priority, max_attempts, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id,
            depends_on, errors
        FROM back
        RETURNING id
    )
    SELECT bring_back_children.ids || coalesce(array_agg(id), '{}')
    INTO all_back
    FROM inserted;

    -- Of those that are still blocked some may have been told of the old ends.
    WITH blocked AS MATERIALIZED (
        SELECT job.id, job.depends_on
        FROM outbox.jobs AS job
        WHERE job.workflow_id = ANY (workflows)
          AND job.priority < 0
          AND job.depends_on ?| all_back::text[]
        ORDER BY job.id
        FOR UPDATE
    ),
    waits AS (
        INSERT INTO outbox.job_waits (job_id, parent_id, run_on)
        SELECT blocked.id, parent.id, blocked.depends_on ->> parent.id::text
        FROM blocked
        JOIN unnest(all_back) AS parent (id) ON blocked.depends_on ? parent.id::text
        ON CONFLICT DO NOTHING
        RETURNING job_id
    )
    INSERT INTO outbox.unsettled_jobs (job_id)
    SELECT DISTINCT job_id
    FROM waits;
END
$$;

REVOKE ALL ON FUNCTION outbox.settle_jobs(uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.bring_back_children(uuid[]) FROM PUBLIC;

-- Ends a running job in its handler's own transaction, as before, with a result that its children read. What belongs to a workflow or has a
-- result is remembered whatever its kind says. history: 0 keep, 1 keep without args, 2 keep nothing.
CREATE PROCEDURE outbox.complete_job(id uuid, lease_token uuid, history smallint, result jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    job outbox.jobs;
BEGIN
    DELETE FROM outbox.jobs
    WHERE id = complete_job.id
      AND lease_token = complete_job.lease_token
    RETURNING * INTO job;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Job % is not this attempt''s any more', complete_job.id
            USING ERRCODE = 'OB001', HINT = 'Roll back: its lease ended, and another attempt may be running.';
    END IF;

    IF complete_job.history < 2 OR job.workflow_id IS NOT NULL OR complete_job.result IS NOT NULL THEN
        INSERT INTO outbox.job_history (
            id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
            state, queue, kind, args, headers, traceparent, workflow_id, depends_on, result, errors)
        VALUES (
            job.id,
            clock_timestamp(),
            job.run_at,
            job.created_at,
            job.claimed_at,
            job.worker_id,
            job.attempt,
            job.priority,
            job.max_attempts,
            job.failures,
            job.crashes,
            'completed',
            job.queue,
            job.kind,
            CASE WHEN complete_job.history = 0 THEN job.args END,
            job.headers,
            job.traceparent,
            job.workflow_id,
            job.depends_on,
            complete_job.result,
            job.errors);
    END IF;

    -- Until the COMMIT this row is locked against every rescue. A process that freezes now must not hold it for ever.
    IF current_setting('idle_in_transaction_session_timeout')::interval NOT BETWEEN interval '1 ms' AND interval '1 min' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '1min', true);
    END IF;
END
$$;

-- For workers of the version before.
CREATE OR REPLACE PROCEDURE outbox.complete_job(id uuid, lease_token uuid, history smallint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CALL outbox.complete_job(complete_job.id, complete_job.lease_token, complete_job.history, NULL);
END
$$;

CREATE OR REPLACE VIEW outbox.all_jobs AS
SELECT
    id,
    CASE
        WHEN lease_token IS NOT NULL THEN 'running'
        WHEN priority < 0 THEN 'blocked'
        WHEN failures > 0 AND run_at > now() THEN 'retrying'
        WHEN run_at > now() THEN 'scheduled'
        ELSE 'waiting'
    END AS state,
    queue::text,
    kind::text,
    abs(priority)::smallint AS priority,
    run_at::timestamptz,
    created_at::timestamptz,
    claimed_at,
    NULL::timestamptz AS finished_at,
    attempt,
    failures::smallint,
    crashes::smallint,
    max_attempts::smallint,
    worker_id,
    cancel_requested_at,
    args::jsonb,
    headers::jsonb,
    traceparent,
    saved_cursor,
    errors::jsonb,
    workflow_id,
    depends_on,
    NULL::jsonb AS result
FROM outbox.jobs
UNION ALL
SELECT
    id,
    state,
    queue,
    kind,
    priority,
    run_at,
    created_at,
    claimed_at,
    finished_at,
    attempt,
    failures,
    crashes,
    max_attempts,
    worker_id,
    NULL::timestamptz AS cancel_requested_at,
    args,
    headers,
    traceparent,
    saved_cursor,
    errors,
    workflow_id,
    depends_on,
    result
FROM outbox.job_history;
