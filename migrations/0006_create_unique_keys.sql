-- Why: jobs of which one is enough.

-- A job with a unique key is inserted blocked, as one that waits for others is, and compared with the others of its kind and key after its commit:
-- who inserts it waits for nobody. Not a domain: a new column with a check would make PostgreSQL write the whole table anew.
-- unique_rule: {"rule": "waiting" | "unfinished" | "within" | "replace" | "debounce" | "throttle", "period": "60 s", "delay": "5 s", "max": "60 s"}
-- and, once it was debounced, "since": when the first of those was enqueued that it stands for.
ALTER TABLE outbox.jobs
    ADD COLUMN unique_key text COLLATE "C",
    ADD COLUMN unique_rule jsonb;

-- met_id: the job in whose favour this one was not run.
ALTER TABLE outbox.job_history
    ADD COLUMN unique_key text COLLATE "C",
    ADD COLUMN unique_rule jsonb,
    ADD COLUMN met_id uuid;

-- What is to be compared, for beat_worker.sql and settle_unique_jobs; and with what. Nothing of them is written for a plain job. Not priority > 0:
-- jobs_ready, which holds just that, would seem the way to a key where statistics saw nearly all blocked.
CREATE INDEX jobs_unsettled ON outbox.jobs (created_at, id) WHERE unique_key IS NOT NULL AND priority < 0;
CREATE INDEX jobs_unique ON outbox.jobs (unique_key, kind) WHERE unique_key IS NOT NULL AND priority >= 0;

-- What has run, for those that are to keep a distance from it.
CREATE INDEX job_history_unique ON outbox.job_history (unique_key, kind, finished_at) WHERE unique_key IS NOT NULL AND state <> 'cancelled';

-- For the list of what met another job, and for those of what gave up, which it would flood.
CREATE INDEX job_history_met ON outbox.job_history (finished_at) WHERE met_id IS NOT NULL;
CREATE INDEX job_history_gave_up_alone ON outbox.job_history (finished_at) WHERE state <> 'completed' AND met_id IS NULL;

-- A rule that cannot be read would be noticed when others have long relied on the job.
CREATE FUNCTION outbox.check_unique_job() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rule    text := NEW.unique_rule ->> 'rule';
    span    interval := coalesce(NEW.unique_rule ->> 'period', NEW.unique_rule ->> 'delay')::interval;
    longest interval := (NEW.unique_rule ->> 'max')::interval;
    -- Only read here, so that it can be read there.
    since   outbox.job_moment := (NEW.unique_rule ->> 'since')::timestamptz;
BEGIN
    IF length(NEW.unique_key) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its unique key has % characters', NEW.id, length(NEW.unique_key)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 200.';
    END IF;
    IF NEW.priority > 0 OR NEW.depends_on IS NOT NULL THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: it has a unique key, and %', NEW.id,
            CASE WHEN NEW.priority > 0 THEN format('its priority %s lets it run before it was compared with others', NEW.priority) ELSE 'waits for other jobs' END
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give it a priority of -4 to -1, and no depends_on; or no unique_key.';
    END IF;
    IF (rule IN ('waiting', 'unfinished', 'replace')
        OR (rule IN ('within', 'throttle') AND NEW.unique_rule ->> 'period' IS NOT NULL)
        OR (rule = 'debounce' AND NEW.unique_rule ->> 'delay' IS NOT NULL)) IS NOT TRUE
       OR span NOT BETWEEN interval '1 microsecond' AND interval '366 days'
       OR longest NOT BETWEEN span AND interval '366 days' THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its unique rule % cannot be used', NEW.id, quote_nullable(left(NEW.unique_rule::text, 200))
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use {"rule": "waiting"}, "unfinished" or "replace"; "within" or "throttle" with a "period" such as "60 s"; or "debounce" with a "delay" and, at will, a "max".';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER jobs_check_unique
AFTER INSERT ON outbox.jobs
FOR EACH ROW WHEN (NEW.unique_key IS NOT NULL) EXECUTE FUNCTION outbox.check_unique_job();

CREATE OR REPLACE TRIGGER jobs_note_blocked
AFTER INSERT ON outbox.jobs
FOR EACH ROW WHEN (NEW.priority < 0 AND NEW.unique_key IS NULL) EXECUTE FUNCTION outbox.note_blocked_job();

-- Compares what was enqueued with a unique key with the others of its kind and key: it is let go, or ends because of one that is there, or ends
-- those in whose place it comes. A part of it: the 50 oldest. Safe for any number of callers at once, at READ COMMITTED; they wait for each other
-- where they have a key in common, and nobody else waits for them.
-- Why nothing is lost: one that waits is locked before another ends because of it, so nobody begins it until this has committed, and then it sees
-- what was committed with the one that ended.
-- queues, run_at: what can be claimed now, for the wake-up. more: there is something left.
CREATE FUNCTION outbox.settle_unique_jobs(OUT queues text[], OUT run_at timestamptz[], OUT released integer, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET lock_timeout = '10s'
AS $$
#variable_conflict use_column
DECLARE
    arrivals    uuid[];
    passed_over text[] := '{}';
    touched     uuid[] := '{}';
    arrived     outbox.jobs;
    rule        text;
    span        interval;
    waits       uuid[];
    newer       uuid;
    due         timestamptz;
    since       timestamptz;
    met         uuid;
    replaced    uuid[];
BEGIN
    released := 0;
    SELECT array_agg(id), count(*) = 50
    INTO arrivals, more
    FROM (
        SELECT id
        FROM outbox.jobs
        WHERE unique_key IS NOT NULL
          AND priority < 0
          AND cancel_requested_at IS NULL
        ORDER BY created_at, id
        LIMIT 50
    ) AS oldest;
    IF arrivals IS NULL THEN
        RETURN;
    END IF;

    -- One at a time for each key. In an order, so that two never wait for each other.
    PERFORM pg_advisory_xact_lock(key.hash)
    FROM (
        SELECT DISTINCT hashtextextended(kind || ' ' || unique_key, 0) AS hash
        FROM outbox.jobs
        WHERE id = ANY (arrivals)
        ORDER BY hash
    ) AS key;

    -- From here on for those that wait, which a claim or an operator locks for a moment. Whoever holds one for longer holds up its key alone.
    PERFORM set_config('lock_timeout', '100ms', true);
    FOR arrived IN
        SELECT *
        FROM outbox.jobs
        WHERE id = ANY (arrivals)
          AND priority < 0
        ORDER BY created_at, id
    LOOP
        CONTINUE WHEN arrived.kind || ' ' || arrived.unique_key = ANY (passed_over);
        BEGIN
            rule := arrived.unique_rule ->> 'rule';
            span := coalesce(arrived.unique_rule ->> 'period', arrived.unique_rule ->> 'delay')::interval;
            met := NULL;
            replaced := '{}';

            -- Here, where it is moved and not before: a row that is locked by a transaction and moved by a subtransaction of it has two that hold it, and
            -- its dead index entries are then walked again and again.
            PERFORM
            FROM outbox.jobs
            WHERE id = arrived.id
              AND priority < 0
              AND cancel_requested_at IS NULL
            FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;

            -- Those that will begin at their beginning. One that has left a cursor or steps behind has read what it read: it counts as running.
            SELECT
                array_agg(id ORDER BY created_at, id),
                (array_agg(id ORDER BY created_at, id) FILTER (WHERE (created_at, id) > (arrived.created_at, arrived.id)))[1],
                min(run_at),
                min(coalesce((unique_rule ->> 'since')::timestamptz, created_at))
            INTO waits, newer, due, since
            FROM (
                SELECT id, created_at, run_at, unique_rule
                FROM outbox.jobs
                WHERE unique_key = arrived.unique_key
                  AND kind = arrived.kind
                  AND priority >= 0
                  AND lease_token IS NULL
                  AND cancel_requested_at IS NULL
                  AND saved_cursor IS NULL
                  AND steps IS NULL
                ORDER BY id
                FOR UPDATE
            ) AS waiting;

            -- Each by a statement after the lock: what was claimed meanwhile runs.
            IF rule = 'waiting' THEN
                met := waits[1];
            ELSIF rule IN ('unfinished', 'within') THEN
                SELECT other.id
                INTO met
                FROM (
                    SELECT id, created_at
                    FROM outbox.jobs
                    WHERE unique_key = arrived.unique_key
                      AND kind = arrived.kind
                      AND priority >= 0
                      AND cancel_requested_at IS NULL
                    UNION ALL
                    SELECT id, created_at
                    FROM outbox.job_history
                    WHERE rule = 'within'
                      AND unique_key = arrived.unique_key
                      AND kind = arrived.kind
                      AND state <> 'cancelled'
                      AND state = 'completed'
                      AND finished_at > arrived.created_at - span
                ) AS other
                WHERE rule = 'unfinished'
                   OR (other.created_at > arrived.created_at - span AND other.created_at < arrived.created_at + span)
                ORDER BY other.created_at, other.id
                LIMIT 1;
            ELSE
                -- Whichever comes last in the end, the newest is the one to run.
                met := newer;
                replaced := coalesce(waits, '{}');
            END IF;

            IF met IS NULL THEN
                IF rule = 'debounce' THEN
                    since := coalesce(since, arrived.created_at);
                    due := least(arrived.created_at + span, since + (arrived.unique_rule ->> 'max')::interval);
                ELSIF rule = 'throttle' AND due IS NULL THEN
                    SELECT max(begun.at) + span
                    INTO due
                    FROM (
                        SELECT coalesce(claimed_at, run_at) AS at
                        FROM outbox.jobs
                        WHERE unique_key = arrived.unique_key
                          AND kind = arrived.kind
                          AND priority >= 0
                        UNION ALL
                        SELECT claimed_at
                        FROM outbox.job_history
                        WHERE unique_key = arrived.unique_key
                          AND kind = arrived.kind
                          AND state <> 'cancelled'
                          AND finished_at > clock_timestamp() - span
                    ) AS begun;
                    due := greatest(due, arrived.run_at, clock_timestamp());
                ELSIF due IS NULL OR replaced = '{}' THEN
                    due := greatest(arrived.run_at, clock_timestamp());
                END IF;

                UPDATE outbox.jobs
                SET priority = -priority,
                    run_at = due,
                    unique_rule = CASE rule WHEN 'debounce' THEN unique_rule || jsonb_build_object('since', since) ELSE unique_rule END
                WHERE id = arrived.id;
            ELSE
                replaced := ARRAY[arrived.id];
            END IF;

            WITH removed AS (
                DELETE FROM outbox.jobs
                WHERE id = ANY (replaced)
                RETURNING
                    id, run_at, created_at, attempt, priority, max_attempts, failures, crashes, queue, kind, args, headers, traceparent,
                    saved_cursor, steps, workflow_id, job_group, unique_key, unique_rule, errors
            )
            INSERT INTO outbox.job_history (
                id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes,
                state, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id, job_group, unique_key, unique_rule, met_id, errors)
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
                job_group,
                unique_key,
                unique_rule,
                coalesce(met, arrived.id),
                CASE WHEN jsonb_array_length(errors) >= 5 THEN errors - 0 ELSE coalesce(errors, '[]') END || jsonb_build_object(
                    'attempt', attempt,
                    'type', 'unique',
                    'message', CASE
                        WHEN met IS NULL THEN format('Job %s has come in its place, with the same unique key.', arrived.id)
                        ELSE format('Job %s has the same unique key, and stands for this one.', met)
                    END,
                    'at', clock_timestamp())
            FROM removed;
            touched := touched || coalesce(met, arrived.id);
            released := released + CASE WHEN met IS NULL THEN 1 ELSE 0 END;
        EXCEPTION
            -- Locked by somebody for long, or refused by the application's own schema: it stays, and is looked at again with the next heartbeat.
            WHEN OTHERS THEN
                RAISE WARNING 'Job % is not compared with others of its unique key yet: %', arrived.id, SQLERRM;
                passed_over := passed_over || (arrived.kind || ' ' || arrived.unique_key);
        END;
    END LOOP;
    more := more AND touched <> '{}';

    -- A claim may have passed over those that were locked here, and gone on behind them.
    SELECT array_agg(by_queue.queue), array_agg(by_queue.run_at)
    INTO queues, run_at
    FROM (
        SELECT queue::text AS queue, min(run_at) AS run_at
        FROM outbox.jobs
        WHERE id = ANY (touched)
          AND lease_token IS NULL
        GROUP BY queue
    ) AS by_queue;
END
$$;

REVOKE ALL ON FUNCTION outbox.settle_unique_jobs() FROM PUBLIC;

-- As before; and what has a unique key is remembered whatever its kind says: others keep a distance from it.
CREATE OR REPLACE PROCEDURE outbox.complete_job(id uuid, lease_token uuid, history smallint, result jsonb)
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

    IF complete_job.history < 2 OR job.workflow_id IS NOT NULL OR job.unique_key IS NOT NULL OR complete_job.result IS NOT NULL THEN
        INSERT INTO outbox.job_history (
            id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
            state, queue, kind, args, headers, traceparent, workflow_id, depends_on, job_group, unique_key, unique_rule, result, errors)
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
            job.job_group,
            job.unique_key,
            job.unique_rule,
            complete_job.result,
            job.errors);
    END IF;

    -- Until the COMMIT this row is locked against every rescue. A process that freezes now must not hold it for ever.
    IF current_setting('idle_in_transaction_session_timeout')::interval NOT BETWEEN interval '1 ms' AND interval '1 min' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '1min', true);
    END IF;
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
    NULL::jsonb AS result,
    job_group,
    unique_key,
    unique_rule,
    NULL::uuid AS met_id
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
    result,
    job_group,
    unique_key,
    unique_rule,
    met_id
FROM outbox.job_history;
