-- Why: the tables a job waits in, runs under and is remembered by.

-- Even where the schema is there, this asks for the right to create schemas; a role for which an administrator made it has none.
DO $schema$
BEGIN
    CREATE SCHEMA IF NOT EXISTS outbox;
EXCEPTION
    WHEN insufficient_privilege THEN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = (parse_ident('outbox.migrations'))[1]) THEN
            RAISE;
        END IF;
END
$schema$;

CREATE TABLE outbox.migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    breaking   boolean NOT NULL DEFAULT false,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL DEFAULT session_user
);

-- What a job's columns may hold. Domains, not checks of the table: those are read and prepared again by every statement (47 of the 84 µs of an
-- insert), and evaluated again by every claim, whatever it sets (a fourth of it).
-- Not {0,62}: a regular expression with a bound takes eight times as long.
CREATE DOMAIN outbox.job_name AS text COLLATE "C"
    CONSTRAINT job_name_is_1_to_63_of_the_allowed_characters CHECK (VALUE ~ '^[a-z0-9][a-z0-9_.:-]*$' AND length(VALUE) <= 63);

CREATE DOMAIN outbox.job_priority AS smallint
    CONSTRAINT job_priority_is_1_to_4 CHECK (VALUE BETWEEN 1 AND 4);

CREATE DOMAIN outbox.job_max_attempts AS smallint
    CONSTRAINT job_max_attempts_is_1_to_1000 CHECK (VALUE BETWEEN 1 AND 1000);

-- Of the years that a worker's clock has too: a row it cannot read would come back with every claim, and keep its neighbours from running.
CREATE DOMAIN outbox.job_moment AS timestamptz
    CONSTRAINT job_moment_is_of_the_years_1_to_9999 CHECK (VALUE >= '0001-01-01 00:00:00+00' AND VALUE < '10000-01-01 00:00:00+00');

-- The limits of the library (OutboxOptions.MaxArgsBytes) are lower; this one is for rows that others write.
CREATE DOMAIN outbox.job_object AS jsonb
    CONSTRAINT job_object_is_a_json_object_of_at_most_32_mib CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 33554432);

-- Errors are added to it where a job is recorded or rescued: one that is no list would stop that for everybody.
CREATE DOMAIN outbox.job_errors AS jsonb
    CONSTRAINT job_errors_is_a_json_array CHECK (jsonb_typeof(VALUE) = 'array');

CREATE DOMAIN outbox.job_count AS smallint
    CONSTRAINT job_count_is_not_negative CHECK (VALUE >= 0);

-- Unfinished jobs only. Columns stand in an order that wastes no padding.
CREATE TABLE outbox.jobs (
    id                  uuid PRIMARY KEY,
    run_at              outbox.job_moment NOT NULL DEFAULT now(),
    created_at          outbox.job_moment NOT NULL DEFAULT now(),
    claimed_at          timestamptz,
    cancel_requested_at timestamptz,
    lease_token         uuid,
    worker_id           uuid,
    attempt             integer NOT NULL DEFAULT 0,
    priority            outbox.job_priority NOT NULL DEFAULT 2,
    max_attempts        outbox.job_max_attempts NOT NULL DEFAULT 20,
    failures            outbox.job_count NOT NULL DEFAULT 0,
    crashes             outbox.job_count NOT NULL DEFAULT 0,
    queue               outbox.job_name NOT NULL DEFAULT 'default',
    kind                outbox.job_name NOT NULL,
    args                outbox.job_object NOT NULL,
    headers             outbox.job_object,
    traceparent         text COLLATE "C",
    saved_cursor        jsonb,
    errors              outbox.job_errors,
    CONSTRAINT jobs_claim_is_whole CHECK (
        (lease_token IS NULL AND worker_id IS NULL AND claimed_at IS NULL)
        OR (lease_token IS NOT NULL AND worker_id IS NOT NULL AND claimed_at IS NOT NULL))
) WITH (
    -- A claim must find room on its own page to be a HOT update: it makes one new version of every row, larger by 40 bytes.
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 0
);

-- For claim_jobs.sql, beat_worker.sql (next due) and queries/. No column that a claim writes may ever stand here, or claims stop being HOT.
-- Its condition holds for every row and keeps it from statements that find jobs by id: id stands here too, and where the dead outnumber the
-- living by far, PostgreSQL deems reading all of this index once per id the cheaper way. A query that is to use it says priority > 0, or which.
CREATE INDEX jobs_ready ON outbox.jobs (queue, priority, run_at, id) WHERE priority > 0;

-- For beat_worker.sql: of the jobs that crashed workers twice, one at a time runs in a process. Empty in a healthy system.
CREATE INDEX jobs_suspect ON outbox.jobs (queue) WHERE crashes >= 2;

-- For beat_worker.sql: cancels to pass on. Nearly always empty.
CREATE INDEX jobs_cancel_requested ON outbox.jobs (id) WHERE cancel_requested_at IS NOT NULL;

-- Finished jobs. A day is dropped as a table; rows are never deleted one by one.
CREATE TABLE outbox.job_history (
    id           uuid NOT NULL,
    finished_at  timestamptz NOT NULL DEFAULT now(),
    run_at       timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    claimed_at   timestamptz,
    worker_id    uuid,
    attempt      integer NOT NULL,
    priority     smallint NOT NULL,
    max_attempts smallint NOT NULL,
    failures     smallint NOT NULL,
    crashes      smallint NOT NULL,
    state        text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    args         jsonb,
    headers      jsonb,
    traceparent  text COLLATE "C",
    saved_cursor jsonb,
    errors       jsonb,
    CONSTRAINT job_history_state_is_final CHECK (state IN ('completed', 'cancelled', 'dead'))
) PARTITION BY RANGE (finished_at);

-- Only a safety net for a system whose maintenance did not run for days; empty otherwise.
CREATE TABLE outbox.job_history_default PARTITION OF outbox.job_history DEFAULT;

-- For one job's story, and for retry by id.
CREATE INDEX job_history_id ON outbox.job_history (id);

-- For the list of what gave up; what completed does not pay for it.
CREATE INDEX job_history_gave_up ON outbox.job_history (finished_at) WHERE state <> 'completed';

-- One row per worker process: its heartbeat is the lease of all its jobs.
CREATE TABLE outbox.workers (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    host         text NOT NULL,
    process_id   integer NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease        interval NOT NULL,
    queues       jsonb NOT NULL,
    kinds        text[] NOT NULL,
    running      integer NOT NULL DEFAULT 0,
    stuck        integer NOT NULL DEFAULT 0,
    stopping     boolean NOT NULL DEFAULT false,
    claim_epoch  integer NOT NULL DEFAULT 0,
    dead_at      timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

-- Only queues about which something was said; a queue needs no row to exist.
CREATE TABLE outbox.queues (
    name         text COLLATE "C" PRIMARY KEY,
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text
);

-- What operators did: a row in the transaction of each statement that changed something. Who and when are the server's word, not the caller's.
CREATE TABLE outbox.operations (
    at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL DEFAULT session_user,
    verb  text COLLATE "C" NOT NULL,
    jobs  integer NOT NULL,
    what  jsonb NOT NULL
);

CREATE INDEX operations_at ON outbox.operations (at);

-- With the base types of its domains: where two columns differ in type, a UNION ALL cannot be read in the order of an index.
CREATE VIEW outbox.all_jobs AS
SELECT
    id,
    CASE
        WHEN lease_token IS NOT NULL THEN 'running'
        WHEN failures > 0 AND run_at > now() THEN 'retrying'
        WHEN run_at > now() THEN 'scheduled'
        ELSE 'waiting'
    END AS state,
    queue::text,
    kind::text,
    priority::smallint,
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
    errors::jsonb
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
    errors
FROM outbox.job_history;

-- A UUIDv7 for enqueues that are made in SQL: 48 bits of milliseconds, 12 bits of their fraction, the rest random (RFC 9562).
CREATE FUNCTION outbox.new_job_id() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(
        set_byte(
            set_byte(
                overlay(
                    uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(micros / 1000)::bigint) FROM 3)
                            || substring(int8send((28672 + floor((micros % 1000) * 4.096))::bigint) FROM 7)
                    FROM 1 FOR 8),
                6,
                112 + (floor((micros % 1000) * 4.096)::integer >> 8)),
            7,
            floor((micros % 1000) * 4.096)::integer & 255),
        'hex')::uuid
    FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000) AS micros) AS now
$$;

-- Enqueue for triggers, psql and other languages. Runs with the owner's rights, so that a role needs nothing but EXECUTE on it.
CREATE FUNCTION outbox.enqueue(
    kind         text,
    args         jsonb DEFAULT '{}',
    queue        text DEFAULT 'default',
    priority     integer DEFAULT 2,
    run_at       timestamptz DEFAULT NULL,
    delay        interval DEFAULT NULL,
    max_attempts integer DEFAULT 20,
    headers      jsonb DEFAULT NULL,
    id           uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    job_id uuid := coalesce(enqueue.id, outbox.new_job_id());
BEGIN
    IF enqueue.kind IS NULL OR enqueue.kind !~ '^[a-z0-9][a-z0-9_.:-]*$' OR length(enqueue.kind) > 63 THEN
        RAISE EXCEPTION 'Job kind % cannot be used', quote_nullable(left(enqueue.kind, 80))
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use 1 to 63 characters of a-z 0-9 _ . : - and start with a letter or a digit.';
    END IF;
    IF enqueue.queue IS NULL OR enqueue.queue !~ '^[a-z0-9][a-z0-9_.:-]*$' OR length(enqueue.queue) > 63 THEN
        RAISE EXCEPTION 'Queue name % cannot be used', quote_nullable(left(enqueue.queue, 80))
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use 1 to 63 characters of a-z 0-9 _ . : - and start with a letter or a digit.';
    END IF;
    IF enqueue.args IS NULL OR jsonb_typeof(enqueue.args) <> 'object' THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its args are no JSON object', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass an object, such as {"id": 7}.';
    END IF;
    IF octet_length(enqueue.args::text) > 65536 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its args are % bytes, more than the 65536 allowed',
            quote_literal(enqueue.kind), octet_length(enqueue.args::text)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Store the data in a table of your own and pass its key.';
    END IF;
    IF enqueue.headers IS NOT NULL AND (jsonb_typeof(enqueue.headers) <> 'object' OR octet_length(enqueue.headers::text) > 16384) THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its headers are no JSON object of at most 16384 bytes', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass an object of small texts, such as {"tenant": "a"}.';
    END IF;
    IF enqueue.priority IS NULL OR enqueue.priority NOT BETWEEN 1 AND 4 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: priority % is out of range', quote_literal(enqueue.kind), enqueue.priority
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 (first) to 4 (last).';
    END IF;
    IF enqueue.max_attempts IS NULL OR enqueue.max_attempts NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: max attempts % is out of range', quote_literal(enqueue.kind), enqueue.max_attempts
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 1000.';
    END IF;
    IF enqueue.run_at IS NOT NULL AND enqueue.delay IS NOT NULL THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: both run_at and delay are given', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one of them.';
    END IF;
    IF NOT isfinite(coalesce(enqueue.run_at, now())) THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: run_at is no moment', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a date and a time, not infinity.';
    END IF;
    IF enqueue.delay < interval '0' THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: delay is negative', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give zero or more.';
    END IF;

    INSERT INTO outbox.jobs (id, kind, args, queue, priority, run_at, max_attempts, headers)
    VALUES (
        job_id,
        enqueue.kind,
        enqueue.args,
        enqueue.queue,
        enqueue.priority,
        coalesce(enqueue.run_at, now() + coalesce(enqueue.delay, interval '0')),
        enqueue.max_attempts,
        enqueue.headers);
    RETURN job_id;
END
$$;

REVOKE ALL ON FUNCTION outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid) FROM PUBLIC;

-- Ends a running job in its handler's own transaction (CompleteWith), under the lease token it was claimed with: OB001 when the lease was lost.
-- history: 0 keep, 1 keep without args, 2 keep nothing. Its plans are kept by the session: they must not be those of an empty table.
CREATE PROCEDURE outbox.complete_job(id uuid, lease_token uuid, history smallint)
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

    IF complete_job.history < 2 THEN
        INSERT INTO outbox.job_history (
            id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
            state, queue, kind, args, headers, traceparent, errors)
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
            job.errors);
    END IF;

    -- Until the COMMIT this row is locked against every rescue. A process that freezes now must not hold it for ever.
    IF current_setting('idle_in_transaction_session_timeout')::interval NOT BETWEEN interval '1 ms' AND interval '1 min' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '1min', true);
    END IF;
END
$$;

-- Makes the history partitions of today and the days ahead, and drops those whose every row is older than the retention.
-- Returns how many it made and dropped. Days are UTC. Safe to call from everywhere at once: who does not get the lock does nothing.
-- Runs with the owner's rights: a worker makes and drops partitions, and nothing else may it make or drop.
CREATE FUNCTION outbox.maintain_history(days_ahead integer, retention interval, OUT made integer, OUT dropped integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- A long query on the history must not make every completion queue behind our lock.
SET lock_timeout = '2s'
AS $$
DECLARE
    today     date := (now() AT TIME ZONE 'UTC')::date;
    each_day  date;
    partition text;
BEGIN
    made := 0;
    dropped := 0;
    IF NOT pg_try_advisory_xact_lock(hashtext('outbox.maintain_history')) THEN
        RETURN;
    END IF;

    FOR each_day IN SELECT today + n FROM generate_series(0, days_ahead) AS n LOOP
        partition := 'job_history_' || to_char(each_day, 'YYYYMMDD');
        IF to_regclass('outbox.' || partition) IS NULL
           AND NOT EXISTS (
               SELECT
               FROM outbox.job_history_default
               WHERE finished_at >= each_day::timestamp AT TIME ZONE 'UTC'
                 AND finished_at < (each_day + 1)::timestamp AT TIME ZONE 'UTC') THEN
            -- Made first and attached then: CREATE ... PARTITION OF would lock out all writers for its whole time.
            EXECUTE format('CREATE TABLE outbox.%I (LIKE outbox.job_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
            EXECUTE format(
                'ALTER TABLE outbox.job_history ATTACH PARTITION outbox.%I FOR VALUES FROM (%L) TO (%L)',
                partition,
                each_day::timestamp AT TIME ZONE 'UTC',
                (each_day + 1)::timestamp AT TIME ZONE 'UTC');
            made := made + 1;
        END IF;
    END LOOP;

    FOR partition IN
        SELECT c.relname
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'outbox.job_history'::regclass
          AND c.relname ~ '^job_history_[0-9]{8}$'
          AND (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' <= now() - retention
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE outbox.%I', partition);
        dropped := dropped + 1;
    END LOOP;

    -- The safety net keeps no partition's promise, so it is the one place where rows are deleted.
    DELETE FROM outbox.job_history_default WHERE finished_at <= now() - retention;

    -- Asked for longer than jobs are: who did that, last month?
    DELETE FROM outbox.operations WHERE at <= now() - greatest(retention, interval '90 days');
END
$$;

REVOKE ALL ON FUNCTION outbox.maintain_history(integer, interval) FROM PUBLIC;

SELECT outbox.maintain_history(3, interval '14 days');
