-- Six roles, each with the least it needs. Nobody has to use them: the library works as well with one role that owns everything.
-- To be run by a superuser, before the first migration and again after each, for it grants on what is there:
--   psql -v ON_ERROR_STOP=1 -f migrations/roles.sql
--
--   outbox_owner      owns the schema and all that is in it; nobody logs in as it
--   outbox_migrator   may become the owner: migrate with Options=-c role=outbox_owner in the connection string
--   outbox_enqueue    adds jobs; reads no arguments, and changes nothing that is there
--   outbox_worker     claims, records and rescues, sets schedules and enqueues their jobs; cannot change what a job is
--   outbox_inspector  reads everything but arguments, headers, cursors and steps, which may hold what not everybody should see; table_health.sql
--                     tells more to one who has pg_read_all_stats too
--   outbox_operator   retries, cancels, deletes, pauses, sets schedules; reads everything
--
-- They cannot log in: GRANT outbox_enqueue, outbox_worker TO my_application.
DO $roles$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['outbox_owner', 'outbox_migrator', 'outbox_enqueue', 'outbox_worker', 'outbox_inspector', 'outbox_operator'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION
            -- The second: another session made it at this moment. Roles belong to the whole cluster.
            WHEN duplicate_object OR unique_violation THEN
                NULL;
        END;
    END LOOP;
END
$roles$;

GRANT outbox_owner TO outbox_migrator;

CREATE SCHEMA IF NOT EXISTS outbox AUTHORIZATION outbox_owner;
ALTER SCHEMA outbox OWNER TO outbox_owner;
GRANT USAGE ON SCHEMA outbox TO outbox_migrator, outbox_enqueue, outbox_worker, outbox_inspector, outbox_operator;

DO $owner$
DECLARE
    command text;
BEGIN
    FOR command IN
        SELECT format('ALTER TABLE %s OWNER TO outbox_owner', class.oid::regclass)
        FROM pg_class AS class
        JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE namespace.nspname = (parse_ident('outbox.x'))[1]
          AND class.relkind IN ('r', 'p', 'v')
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO outbox_owner', proc.oid::regprocedure)
        FROM pg_proc AS proc
        JOIN pg_namespace AS namespace ON namespace.oid = proc.pronamespace
        WHERE namespace.nspname = (parse_ident('outbox.x'))[1]
        UNION ALL
        SELECT format('ALTER DOMAIN %s OWNER TO outbox_owner', type.oid::regtype)
        FROM pg_type AS type
        JOIN pg_namespace AS namespace ON namespace.oid = type.typnamespace
        WHERE namespace.nspname = (parse_ident('outbox.x'))[1]
          AND type.typtype = 'd'
    LOOP
        EXECUTE command;
    END LOOP;
END
$owner$;

DO $grants$
BEGIN
    -- Before the last migration there is nothing to grant on.
    IF to_regclass('outbox.related_jobs') IS NULL THEN
        RETURN;
    END IF;

    REVOKE ALL ON outbox.jobs, outbox.job_history, outbox.workers, outbox.queues, outbox.operations, outbox.schedules, outbox.schedule_ticks,
        outbox.job_waits, outbox.unsettled_jobs, outbox.alongside_jobs, outbox.job_groups, outbox.queue_holders, outbox.paused_kinds, outbox.migrations,
        outbox.all_jobs, outbox.related_jobs
        FROM outbox_enqueue, outbox_worker, outbox_inspector, outbox_operator;
    -- Which version is here: a process that migrates at its start asks, and finds nothing to do.
    GRANT SELECT ON outbox.migrations TO outbox_enqueue, outbox_worker, outbox_inspector, outbox_operator;

    -- What is read is what an insert returns, and whether an earlier try of a save got through.
    GRANT INSERT (id, kind, args, queue, priority, run_at, max_attempts, headers, traceparent, workflow_id, depends_on, job_group, unique_key, unique_rule)
        ON outbox.jobs TO outbox_enqueue;
    GRANT INSERT, SELECT (run_at) ON outbox.related_jobs TO outbox_enqueue;
    GRANT SELECT (id, queue, run_at, workflow_id) ON outbox.jobs TO outbox_enqueue;
    -- How a job ended that the enqueuer waits for.
    GRANT SELECT (id, finished_at, kind, state, result, met_id) ON outbox.job_history TO outbox_enqueue;
    GRANT EXECUTE ON FUNCTION outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid, text, text, jsonb, uuid, jsonb) TO outbox_enqueue;

    GRANT SELECT, DELETE ON outbox.jobs TO outbox_worker;
    GRANT UPDATE (run_at, claimed_at, lease_token, worker_id, attempt, failures, crashes, saved_cursor, steps, progress, errors)
        ON outbox.jobs TO outbox_worker;
    GRANT INSERT ON outbox.job_history TO outbox_worker;
    -- What the parents of a job left for it, and nothing else of the history.
    GRANT SELECT (id, finished_at, kind, state, result, met_id) ON outbox.job_history TO outbox_worker;
    GRANT SELECT ON outbox.unsettled_jobs TO outbox_worker;
    GRANT SELECT, DELETE ON outbox.alongside_jobs TO outbox_worker;
    GRANT EXECUTE ON FUNCTION outbox.settle_jobs(uuid[]), outbox.settle_jobs_apart(), outbox.settle_unique_jobs() TO outbox_worker;
    GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.workers TO outbox_worker;
    GRANT EXECUTE ON FUNCTION
        outbox.takes_turns(text),
        outbox.room_in_queue(text, integer),
        outbox.note_started(text, uuid[]),
        outbox.note_started(text, uuid[], uuid),
        outbox.file_groups(text, timestamptz[], uuid[], integer),
        outbox.claim_in_turn(text, integer, boolean, text[], uuid, integer, uuid),
        outbox.free_groups(text[], text[]),
        outbox.push_back(text[], text[], bigint[]),
        outbox.set_limits(text, boolean, integer, integer, interval, integer, integer, interval, text, text)
        TO outbox_worker;
    GRANT SELECT, DELETE ON outbox.job_groups TO outbox_worker;
    GRANT SELECT ON outbox.queues, outbox.queue_holders, outbox.paused_kinds TO outbox_worker;
    GRANT UPDATE (ended) ON outbox.queue_holders TO outbox_worker;
    GRANT UPDATE (groups_looked_at) ON outbox.queues TO outbox_worker;
    GRANT EXECUTE ON FUNCTION outbox.maintain_history(integer, interval) TO outbox_worker;

    GRANT INSERT (id, kind, args, headers, queue, priority, max_attempts, job_group) ON outbox.jobs TO outbox_worker;
    GRANT SELECT, INSERT, UPDATE ON outbox.schedules TO outbox_worker;
    GRANT SELECT, INSERT, DELETE ON outbox.schedule_ticks TO outbox_worker;

    GRANT SELECT (
        id, run_at, created_at, claimed_at, cancel_requested_at, lease_token, worker_id, attempt, priority, max_attempts, failures, crashes,
        queue, kind, traceparent, progress, workflow_id, depends_on, job_group, unique_key, unique_rule, errors) ON outbox.jobs TO outbox_inspector;
    GRANT SELECT (
        id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes, state, queue, kind,
        traceparent, workflow_id, depends_on, job_group, unique_key, unique_rule, met_id, errors) ON outbox.job_history TO outbox_inspector;
    GRANT SELECT (
        id, state, queue, kind, priority, run_at, created_at, claimed_at, finished_at, attempt, failures, crashes, max_attempts, worker_id,
        cancel_requested_at, traceparent, workflow_id, depends_on, job_group, unique_key, unique_rule, met_id, errors) ON outbox.all_jobs TO outbox_inspector;
    -- The newest minutes of the history are found by its pages.
    GRANT SELECT (ctid) ON outbox.job_history TO outbox_inspector;
    GRANT SELECT ON outbox.workers, outbox.queues, outbox.operations, outbox.schedule_ticks, outbox.job_waits, outbox.job_groups, outbox.queue_holders,
        outbox.paused_kinds TO outbox_inspector;
    GRANT SELECT (
        name, kind, queue, priority, max_attempts, job_group, cron, every, time_zone, missed, missed_limit, overlap, paused_at, changed_at, version,
        declared, last_at, last_job_id, next_at, problem) ON outbox.schedules TO outbox_inspector;

    GRANT SELECT ON outbox.jobs, outbox.job_history, outbox.job_waits, outbox.all_jobs, outbox.workers, outbox.queues, outbox.operations TO outbox_operator;
    GRANT UPDATE (run_at, cancel_requested_at), DELETE ON outbox.jobs TO outbox_operator;
    -- A job of the history that is retried goes back as it was.
    GRANT INSERT (id, run_at, created_at, attempt, priority, max_attempts, queue, kind, args, headers, traceparent, saved_cursor, steps,
        workflow_id, depends_on, job_group, unique_key, unique_rule, errors) ON outbox.jobs TO outbox_operator;
    GRANT EXECUTE ON FUNCTION outbox.bring_back_children(uuid[]) TO outbox_operator;
    -- UPDATE of one column, or its rows could not be locked.
    GRANT INSERT, DELETE, UPDATE (finished_at) ON outbox.job_history TO outbox_operator;
    GRANT INSERT, UPDATE ON outbox.queues TO outbox_operator;
    GRANT SELECT, INSERT, UPDATE ON outbox.job_groups TO outbox_operator;
    GRANT SELECT ON outbox.queue_holders TO outbox_operator;
    GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.paused_kinds TO outbox_operator;
    GRANT EXECUTE ON FUNCTION
        outbox.free_groups(text[], text[]),
        outbox.set_limits(text, boolean, integer, integer, interval, integer, integer, interval, text, text)
        TO outbox_operator;
    GRANT INSERT (verb, jobs, what) ON outbox.operations TO outbox_operator;
    GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.schedules, outbox.schedule_ticks TO outbox_operator;
END
$grants$;
