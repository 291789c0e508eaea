-- Why: a session that held the row of a job that waits for others, or a trigger of the application's that refused its change, held up all workflows,
-- and the record of the ends of their jobs.

-- Whoever holds one for longer is not waited for: settle_jobs_apart.
ALTER FUNCTION outbox.settle_jobs(uuid[]) SET lock_timeout = '200ms';

-- The same, where that fails: of each job that waits by itself, so that what is locked or refused holds up itself alone. held_up: those that could not
-- be settled, whose notes stay, and of the first of them the SQLSTATE. Bounded: 500 notes, 1,000 jobs, twenty that are held up.
CREATE FUNCTION outbox.settle_jobs_apart(
    OUT queues text[], OUT run_at timestamptz[], OUT released integer, OUT more boolean, OUT held_up uuid[], OUT error text)
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
    noted       uuid[];
    waiting     uuid[];
    each_job    uuid;
    settled     record;
    all_queues  text[] := '{}';
    all_run_at  timestamptz[] := '{}';
BEGIN
    released := 0;
    held_up := '{}';
    WITH notes AS MATERIALIZED (
        SELECT ctid
        FROM outbox.unsettled_jobs
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

    -- In no order: the same ones must not be before the others each time.
    SELECT array_agg(job_id ORDER BY random())
    INTO waiting
    FROM (
        SELECT job_id
        FROM (
            SELECT job_id, parent_id FROM outbox.job_waits WHERE parent_id = ANY (noted)
            UNION
            SELECT job_id, parent_id FROM outbox.job_waits WHERE job_id = ANY (noted)
        ) AS around
        WHERE NOT EXISTS (SELECT FROM outbox.jobs AS parent WHERE parent.id = around.parent_id)
        GROUP BY job_id
        LIMIT 1000
    ) AS decidable;
    IF waiting IS NULL THEN
        RETURN;
    END IF;
    IF cardinality(waiting) = 1000 THEN
        more := true;
        INSERT INTO outbox.unsettled_jobs (job_id)
        SELECT unnest(noted);
    END IF;

    -- A note of its own for each, which an error leaves as it is.
    INSERT INTO outbox.unsettled_jobs (job_id)
    SELECT unnest(waiting);
    FOREACH each_job IN ARRAY waiting LOOP
        BEGIN
            SELECT *
            INTO settled
            FROM outbox.settle_jobs(ARRAY[each_job]);
            all_queues := all_queues || settled.queues;
            all_run_at := all_run_at || settled.run_at;
            released := released + settled.released;
            more := more OR settled.more;
        EXCEPTION WHEN OTHERS THEN
            held_up := held_up || each_job;
            error := coalesce(error, SQLSTATE);
            EXIT WHEN cardinality(held_up) = 20;
        END;
    END LOOP;

    SELECT array_agg(by_queue.queue), array_agg(by_queue.run_at)
    INTO queues, run_at
    FROM (
        SELECT each.queue, min(each.run_at) AS run_at
        FROM unnest(all_queues, all_run_at) AS each (queue, run_at)
        GROUP BY each.queue
    ) AS by_queue;
END
$$;

REVOKE ALL ON FUNCTION outbox.settle_jobs_apart() FROM PUBLIC;
