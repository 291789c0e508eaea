-- Why: limits of queues and of groups of jobs, and turns between groups.

-- What its jobs are about, for limits and turns: a tenant, a customer, an account. Not a domain: a new column with a check would make
-- PostgreSQL write the whole table anew.
ALTER TABLE outbox.jobs ADD COLUMN job_group text COLLATE "C";
ALTER TABLE outbox.job_history ADD COLUMN job_group text COLLATE "C";

-- For claim_in_turn. No column that a claim writes may ever stand here, or claims stop being HOT.
CREATE INDEX jobs_of_group ON outbox.jobs (queue, job_group, priority, run_at, id) WHERE job_group IS NOT NULL AND priority > 0;

-- The limits of a queue, all optional; limited says that there are some, or that its groups take turns: then it is claimed by claim_in_turn
-- alone. holders: jobs that were started, some of which have ended since: how many run is asked of their leases. started: how many were
-- started up to which moment of the last period.
ALTER TABLE outbox.queues
    ADD COLUMN paused_until      timestamptz,
    ADD COLUMN limited           boolean NOT NULL DEFAULT false,
    ADD COLUMN concurrency       integer,
    ADD COLUMN rate              integer,
    ADD COLUMN rate_period       interval,
    ADD COLUMN group_concurrency integer,
    ADD COLUMN group_rate        integer,
    ADD COLUMN group_rate_period interval,
    ADD COLUMN group_order       text COLLATE "C" NOT NULL DEFAULT 'any',
    ADD COLUMN limits_declared   text COLLATE "C",
    ADD COLUMN holders           uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN started_at        timestamptz[] NOT NULL DEFAULT '{}',
    ADD COLUMN started           integer[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT queues_limits_are_of_a_limited_queue CHECK (
        limited OR (
            concurrency IS NULL AND rate IS NULL AND group_concurrency IS NULL AND group_rate IS NULL AND group_order = 'any')),
    ADD CONSTRAINT queues_concurrency_is_1_to_10000 CHECK (concurrency BETWEEN 1 AND 10000),
    ADD CONSTRAINT queues_rate_is_1_to_1000000_in_a_period CHECK (
        (rate IS NULL) = (rate_period IS NULL) AND rate BETWEEN 1 AND 1000000
        AND rate_period BETWEEN interval '1 second' AND interval '31 days'),
    ADD CONSTRAINT queues_group_concurrency_is_1_to_10000 CHECK (group_concurrency BETWEEN 1 AND 10000),
    ADD CONSTRAINT queues_group_rate_is_1_to_1000000_in_a_period CHECK (
        (group_rate IS NULL) = (group_rate_period IS NULL) AND group_rate BETWEEN 1 AND 1000000
        AND group_rate_period BETWEEN interval '1 second' AND interval '31 days'),
    ADD CONSTRAINT queues_group_order_is_any_fifo_or_strict CHECK (group_order IN ('any', 'fifo', 'strict'));

-- The groups of limited queues whose jobs are waiting or running; the one without a name is of the jobs without a group. State:
--   ready   may have a job that can start: stands in the line, the lowest turn first
--   idle    has none that is due
--   full    as many run as may: looked at when one has ended
--   later   paused, or as many have started as may: looked at at look_at
--   failed  strict order, and the job whose turn it is is dead: looked at when that one is retried or passed over
-- after_run_at, after_id: per priority, where its waiting jobs begin (inclusive), so that a claim need not walk index entries of jobs long gone.
-- head: in strict order, the job that was started last: while it is not done, no other may start.
CREATE TABLE outbox.job_groups (
    queue        text COLLATE "C" NOT NULL,
    job_group    text COLLATE "C" NOT NULL,
    state        text COLLATE "C" NOT NULL DEFAULT 'ready',
    turn         double precision NOT NULL DEFAULT 0,
    weight       real NOT NULL DEFAULT 1,
    concurrency  integer,
    look_at      timestamptz,
    paused_until timestamptz,
    pause_reason text,
    head         uuid,
    holders      uuid[] NOT NULL DEFAULT '{}',
    started_at   timestamptz[] NOT NULL DEFAULT '{}',
    started      integer[] NOT NULL DEFAULT '{}',
    after_run_at timestamptz[] NOT NULL DEFAULT '{-infinity,-infinity,-infinity,-infinity}',
    after_id     uuid[] NOT NULL DEFAULT array_fill('00000000-0000-0000-0000-000000000000'::uuid, ARRAY[4]),
    CONSTRAINT job_groups_pkey PRIMARY KEY (queue, job_group),
    CONSTRAINT job_groups_state_is_known CHECK (state IN ('ready', 'idle', 'full', 'later', 'failed')),
    CONSTRAINT job_groups_weight_is_a_hundredth_to_a_hundred CHECK (weight BETWEEN 0.01 AND 100),
    CONSTRAINT job_groups_concurrency_is_1_to_10000 CHECK (concurrency BETWEEN 1 AND 10000)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX job_groups_turn ON outbox.job_groups (queue, state, turn);
CREATE INDEX job_groups_look ON outbox.job_groups (queue, look_at) WHERE look_at IS NOT NULL;

-- Adds starts, and forgets those that are a period old. They are kept by fiftieths of the period, and rounded up by one to two of them: never
-- do more than the limit start in any period, also where a start comes a little after its claim.
CREATE FUNCTION outbox.note_starts(
    INOUT started_at timestamptz[], INOUT started integer[], period interval, jobs integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    slice double precision := extract(epoch FROM period) / 50;
    at    timestamptz := to_timestamp((ceil(extract(epoch FROM clock_timestamp()) / slice) + 1) * slice);
    old   integer;
BEGIN
    SELECT count(*)
    INTO old
    FROM unnest(started_at) AS each (at)
    WHERE each.at <= clock_timestamp() - period;
    started_at := started_at[old + 1:];
    started := started[old + 1:];
    IF jobs <= 0 THEN
        RETURN;
    END IF;
    IF started_at[cardinality(started_at)] = at THEN
        started[cardinality(started)] := started[cardinality(started)] + jobs;
    ELSE
        started_at := started_at || at;
        started := started || jobs;
    END IF;
END
$$;

-- The turn that a group gets which comes into line: it has no credit from the time when it had nothing to do, and no debt.
CREATE FUNCTION outbox.present_turn(queue text) RETURNS double precision
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
    SELECT coalesce(
        (
            SELECT first.turn
            FROM outbox.job_groups AS first
            WHERE first.queue = present_turn.queue
              AND first.state = 'ready'
            ORDER BY first.turn
            LIMIT 1
        ),
        (
            SELECT max(last.turn)
            FROM unnest('{idle,full,later,failed}'::text[]) AS states (state)
            CROSS JOIN LATERAL (
                SELECT other.turn
                FROM outbox.job_groups AS other
                WHERE other.queue = present_turn.queue
                  AND other.state = states.state
                ORDER BY other.turn DESC
                LIMIT 1
            ) AS last
        ),
        0)
$$;

-- The due jobs of a group that no worker holds, in the order in which they are to start. To be inlined into what asks: no settings of its own.
CREATE FUNCTION outbox.due_in_group(queue text, job_group text, after_run_at timestamptz[], after_id uuid[])
RETURNS TABLE (id uuid, priority smallint, run_at timestamptz, kind text, is_suspect boolean)
LANGUAGE sql STABLE
AS $$
    (
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND $2 <> ''
          AND job.priority = 1
          AND (job.run_at, job.id) >= ($3[1], $4[1])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND $2 <> ''
          AND job.priority = 2
          AND (job.run_at, job.id) >= ($3[2], $4[2])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND $2 <> ''
          AND job.priority = 3
          AND (job.run_at, job.id) >= ($3[3], $4[3])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
        FROM outbox.jobs AS job
        WHERE job.queue = $1
          AND job.job_group = $2
          AND $2 <> ''
          AND job.priority = 4
          AND (job.run_at, job.id) >= ($3[4], $4[4])
          AND job.run_at <= now()
          AND job.lease_token IS NULL
          AND job.cancel_requested_at IS NULL
        ORDER BY job.run_at, job.id
    )
    UNION ALL
    (
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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
        SELECT job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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

-- Looks through the due jobs of a limited queue from a worker's cursor on, and puts their groups in line. A group whose jobs wait is in line, or
-- will be (full, later). Its row is locked before that is decided: a claim that has just found nothing in it must not have the last word.
-- seen_*: where the next look begins, per priority. more: there is more to look through.
CREATE FUNCTION outbox.file_groups(
    queue text, after_run_at timestamptz[], after_id uuid[], max_jobs integer,
    OUT seen_run_at timestamptz[], OUT seen_id uuid[], OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    left_over integer := max_jobs;
    names     text[] := '{}';
    levels    integer[] := '{}';
    first_at  timestamptz[] := '{}';
    first_id  uuid[] := '{}';
    of_level  record;
    turn_now  double precision;
BEGIN
    seen_run_at := file_groups.after_run_at;
    seen_id := file_groups.after_id;
    FOR level IN 1..4 LOOP
        WITH seen AS MATERIALIZED (
            SELECT job.job_group, job.run_at, job.id, job.lease_token IS NULL AND job.cancel_requested_at IS NULL AS waits
            FROM outbox.jobs AS job
            WHERE job.queue = file_groups.queue
              AND job.priority = level
              AND job.priority > 0
              AND (job.run_at, job.id) > (file_groups.after_run_at[level], file_groups.after_id[level])
              AND job.run_at <= now()
            ORDER BY job.run_at, job.id
            LIMIT left_over
        ),
        by_group AS (
            SELECT DISTINCT ON (coalesce(seen.job_group, '')) coalesce(seen.job_group, '') AS name, seen.run_at, seen.id
            FROM seen
            WHERE seen.waits
            ORDER BY coalesce(seen.job_group, ''), seen.run_at, seen.id
        )
        SELECT
            (SELECT count(*) FROM seen) AS jobs,
            (SELECT seen.run_at FROM seen ORDER BY seen.run_at DESC, seen.id DESC LIMIT 1) AS last_at,
            (SELECT seen.id FROM seen ORDER BY seen.run_at DESC, seen.id DESC LIMIT 1) AS last_id,
            (SELECT array_agg(by_group.name ORDER BY by_group.name) FROM by_group) AS names,
            (SELECT array_agg(by_group.run_at ORDER BY by_group.name) FROM by_group) AS first_at,
            (SELECT array_agg(by_group.id ORDER BY by_group.name) FROM by_group) AS first_id
        INTO of_level;
        IF of_level.jobs > 0 THEN
            seen_run_at[level] := of_level.last_at;
            seen_id[level] := of_level.last_id;
        END IF;
        IF of_level.names IS NOT NULL THEN
            names := names || of_level.names;
            levels := levels || array_fill(level, ARRAY[cardinality(of_level.names)]);
            first_at := first_at || of_level.first_at;
            first_id := first_id || of_level.first_id;
        END IF;
        left_over := left_over - of_level.jobs;
        EXIT WHEN left_over <= 0;
    END LOOP;
    more := left_over <= 0;
    IF cardinality(names) = 0 THEN
        RETURN;
    END IF;

    turn_now := outbox.present_turn(file_groups.queue);
    INSERT INTO outbox.job_groups AS known (queue, job_group, turn, after_run_at, after_id)
    SELECT
        file_groups.queue,
        each.name,
        turn_now,
        ARRAY[
            coalesce(min(each.run_at) FILTER (WHERE each.level = 1), now()),
            coalesce(min(each.run_at) FILTER (WHERE each.level = 2), now()),
            coalesce(min(each.run_at) FILTER (WHERE each.level = 3), now()),
            coalesce(min(each.run_at) FILTER (WHERE each.level = 4), now())],
        ARRAY[
            coalesce((array_agg(each.id) FILTER (WHERE each.level = 1))[1], '00000000-0000-0000-0000-000000000000'),
            coalesce((array_agg(each.id) FILTER (WHERE each.level = 2))[1], '00000000-0000-0000-0000-000000000000'),
            coalesce((array_agg(each.id) FILTER (WHERE each.level = 3))[1], '00000000-0000-0000-0000-000000000000'),
            coalesce((array_agg(each.id) FILTER (WHERE each.level = 4))[1], '00000000-0000-0000-0000-000000000000')]
    FROM unnest(names, levels, first_at, first_id) AS each (name, level, run_at, id)
    GROUP BY each.name
    ORDER BY each.name
    ON CONFLICT (queue, job_group) DO UPDATE
    SET state = CASE WHEN known.state IN ('idle', 'failed') THEN 'ready' ELSE known.state END,
        turn = CASE WHEN known.state IN ('idle', 'failed') THEN greatest(known.turn, excluded.turn) ELSE known.turn END,
        after_run_at = ARRAY(
            SELECT least(known.after_run_at[p], excluded.after_run_at[p])
            FROM generate_series(1, 4) AS p
            ORDER BY p),
        after_id = ARRAY(
            SELECT CASE WHEN (excluded.after_run_at[p], excluded.after_id[p]) < (known.after_run_at[p], known.after_id[p]) THEN excluded.after_id[p] ELSE known.after_id[p] END
            FROM generate_series(1, 4) AS p
            ORDER BY p)
    WHERE known.state IN ('idle', 'failed')
       OR EXISTS (
           SELECT
           FROM generate_series(1, 4) AS p
           WHERE (excluded.after_run_at[p], excluded.after_id[p]) < (known.after_run_at[p], known.after_id[p]));
END
$$;

-- Claims jobs of a limited queue for a worker, at most max_jobs: of the groups in line, the one with the lowest turn first, each within its limits
-- and all within those of the queue. What is claimed counts as running as long as its lease lasts, and is the worker's as after claim_jobs.sql.
-- Invariants: the row of a group, and that of the queue where it has limits of its own, is locked before what runs is counted, by a statement of
-- its own: no two claims count the same room. A claim waits for no group. What stays in line, or leaves it, is decided under that lock.
CREATE FUNCTION outbox.claim_in_turn(
    queue text, max_jobs integer, suspects boolean, kinds text[], worker uuid, epoch integer, lease_token uuid) RETURNS SETOF outbox.jobs
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    limits     outbox.queues;
    room       integer := max_jobs;
    line       text[];
    picked     uuid[];
    of_group   text[];
    all_picked uuid[] := '{}';
    stayed     integer;
    turn_now   double precision;
BEGIN
    SELECT *
    INTO limits
    FROM outbox.queues
    WHERE name = claim_in_turn.queue;
    IF limits.concurrency IS NOT NULL OR limits.rate IS NOT NULL THEN
        SELECT *
        INTO limits
        FROM outbox.queues
        WHERE name = claim_in_turn.queue
        FOR NO KEY UPDATE;
    END IF;
    IF limits.limited IS NOT TRUE OR limits.paused_at IS NOT NULL OR limits.paused_until > now() THEN
        RETURN;
    END IF;
    IF cardinality(limits.holders) + room > limits.concurrency THEN
        limits.holders := ARRAY(SELECT id FROM outbox.jobs WHERE id = ANY (limits.holders) AND lease_token IS NOT NULL);
        room := least(room, limits.concurrency - cardinality(limits.holders));
    END IF;
    IF limits.rate IS NOT NULL THEN
        room := least(room, limits.rate - (
            SELECT coalesce(sum(each.jobs), 0)
            FROM unnest(limits.started_at, limits.started) AS each (at, jobs)
            WHERE each.at > clock_timestamp() - limits.rate_period));
    END IF;

    -- Whose time has come.
    IF EXISTS (SELECT FROM outbox.job_groups WHERE queue = claim_in_turn.queue AND look_at <= now()) THEN
        turn_now := outbox.present_turn(claim_in_turn.queue);
        UPDATE outbox.job_groups AS late
        SET state = 'ready',
            look_at = NULL,
            turn = greatest(late.turn, turn_now)
        WHERE late.ctid = ANY (ARRAY(
            SELECT ctid
            FROM outbox.job_groups
            WHERE queue = claim_in_turn.queue
              AND look_at <= now()
            ORDER BY look_at
            LIMIT 1000
            FOR NO KEY UPDATE SKIP LOCKED));
    END IF;

    FOR round IN 1..10 LOOP
        EXIT WHEN room <= 0;
        IF claim_in_turn.suspects THEN
            SELECT array_agg(first.job_group)
            INTO line
            FROM (
                SELECT job_group
                FROM outbox.job_groups
                WHERE queue = claim_in_turn.queue
                  AND job_group IN (
                      SELECT coalesce(job.job_group, '')
                      FROM outbox.jobs AS job
                      WHERE job.queue = claim_in_turn.queue
                        AND job.crashes >= 2
                        AND job.lease_token IS NULL
                        AND job.run_at <= now()
                      LIMIT 100)
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS first;
        ELSE
            SELECT array_agg(first.job_group)
            INTO line
            FROM (
                SELECT job_group
                FROM outbox.job_groups
                WHERE queue = claim_in_turn.queue
                  AND state = 'ready'
                ORDER BY turn
                LIMIT least(room, 100)
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS first;
        END IF;
        EXIT WHEN line IS NULL;

        WITH lane AS MATERIALIZED (
            SELECT
                known.job_group,
                known.turn,
                known.weight,
                known.after_run_at,
                known.after_id,
                known.head,
                greatest(0, least(
                    ceil(2.0 * room / cardinality(line))::integer,
                    CASE WHEN limits.group_order = 'any' THEN coalesce(known.concurrency, limits.group_concurrency) ELSE 1 END - (
                        SELECT count(*)
                        FROM outbox.jobs AS job
                        WHERE job.id = ANY (known.holders)
                          AND job.lease_token IS NOT NULL),
                    limits.group_rate - (
                        SELECT coalesce(sum(each.jobs), 0)
                        FROM unnest(known.started_at, known.started) AS each (at, jobs)
                        WHERE each.at > clock_timestamp() - limits.group_rate_period),
                    CASE WHEN known.paused_until > now() THEN 0 END)) AS free,
                limits.group_order = 'strict' AND known.head IS NOT NULL AND (
                    EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = known.head)
                    OR (
                        SELECT past.state = 'dead'
                        FROM outbox.job_history AS past
                        WHERE past.id = known.head
                        ORDER BY past.finished_at DESC
                        LIMIT 1) IS TRUE) AS head_first
            FROM outbox.job_groups AS known
            WHERE known.queue = claim_in_turn.queue
              AND known.job_group = ANY (line)
        ),
        candidates AS (
            SELECT
                lane.job_group,
                due.id,
                lane.turn + row_number() OVER (PARTITION BY lane.job_group ORDER BY due.priority, due.run_at, due.id) / lane.weight AS tag
            FROM lane
            CROSS JOIN LATERAL (
                (
                    SELECT waiting.*
                    FROM outbox.due_in_group(claim_in_turn.queue, lane.job_group, lane.after_run_at, lane.after_id) AS waiting
                    WHERE NOT lane.head_first
                      AND (limits.group_order <> 'any' OR (waiting.kind = ANY (claim_in_turn.kinds) AND waiting.is_suspect = claim_in_turn.suspects))
                    LIMIT lane.free
                )
                UNION ALL
                (
                    SELECT job.id, job.priority, job.run_at, job.kind, job.crashes >= 2
                    FROM outbox.jobs AS job
                    WHERE lane.head_first
                      AND job.id = lane.head
                      AND job.priority > 0
                      AND job.run_at <= now()
                      AND job.lease_token IS NULL
                      AND job.cancel_requested_at IS NULL
                    LIMIT lane.free
                )
            ) AS due (id, priority, run_at, kind, is_suspect)
            WHERE due.kind = ANY (claim_in_turn.kinds)
              AND due.is_suspect = claim_in_turn.suspects
        )
        SELECT array_agg(best.id ORDER BY best.tag, best.job_group), array_agg(best.job_group ORDER BY best.tag, best.job_group)
        INTO picked, of_group
        FROM (
            SELECT *
            FROM candidates
            ORDER BY tag, job_group
            LIMIT room
        ) AS best;

        SELECT array_agg(locked.id ORDER BY locked.place), array_agg(locked.name ORDER BY locked.place)
        INTO picked, of_group
        FROM (
            SELECT job.id, pick.name, pick.place
            FROM unnest(picked, of_group) WITH ORDINALITY AS pick (id, name, place)
            JOIN outbox.jobs AS job ON job.id = pick.id
            WHERE job.lease_token IS NULL
              AND job.cancel_requested_at IS NULL
            FOR NO KEY UPDATE OF job SKIP LOCKED
        ) AS locked;

        IF picked IS NOT NULL THEN
            PERFORM
            FROM outbox.workers
            WHERE id = claim_in_turn.worker
              AND dead_at IS NULL
              AND claim_epoch = claim_in_turn.epoch
            FOR KEY SHARE;
            IF NOT FOUND THEN
                RETURN;
            END IF;

            RETURN QUERY
            WITH claimed AS (
                UPDATE outbox.jobs AS job
                SET attempt = least(attempt, 2147483646) + 1,
                    lease_token = claim_in_turn.lease_token,
                    worker_id = claim_in_turn.worker,
                    claimed_at = clock_timestamp()
                FROM unnest(picked) WITH ORDINALITY AS pick (id, place)
                WHERE job.id = pick.id
                RETURNING job AS job, pick.place
            )
            SELECT (claimed.job).*
            FROM claimed
            ORDER BY claimed.place;
        END IF;

        WITH taken AS MATERIALIZED (
            SELECT pick.name, count(*) AS jobs, array_agg(pick.id) AS ids, (array_agg(pick.id ORDER BY pick.place DESC))[1] AS last_id
            FROM unnest(picked, of_group) WITH ORDINALITY AS pick (id, name, place)
            GROUP BY pick.name
        ),
        fact AS MATERIALIZED (
            SELECT
                known.job_group,
                coalesce(taken.jobs, 0) AS jobs,
                running.ids AS running,
                CASE WHEN limits.group_order = 'any' THEN coalesce(known.concurrency, limits.group_concurrency) ELSE 1 END AS most,
                starts.started_at,
                starts.started,
                (SELECT sum(each) FROM unnest(starts.started) AS each) AS started_jobs,
                CASE WHEN limits.group_order = 'strict' THEN coalesce(taken.last_id, known.head) END AS head,
                head.id IS NOT NULL AS head_waits_or_runs,
                head.lease_token IS NOT NULL AS head_runs,
                head.run_at AS head_run_at,
                limits.group_order = 'strict' AND head.id IS NULL AND (
                    SELECT past.state = 'dead'
                    FROM outbox.job_history AS past
                    WHERE past.id = coalesce(taken.last_id, known.head)
                    ORDER BY past.finished_at DESC
                    LIMIT 1) IS TRUE AS head_is_dead,
                next.id IS NOT NULL AS has_due,
                -- Before the next one there is none that is due; what comes to lie there is put in line with its place.
                ARRAY(
                    SELECT CASE WHEN p < coalesce(next.priority, 5) THEN now() WHEN p = next.priority THEN next.run_at ELSE known.after_run_at[p] END
                    FROM generate_series(1, 4) AS p
                    ORDER BY p) AS after_run_at,
                ARRAY(
                    SELECT CASE WHEN p < coalesce(next.priority, 5) THEN '00000000-0000-0000-0000-000000000000' WHEN p = next.priority THEN next.id ELSE known.after_id[p] END
                    FROM generate_series(1, 4) AS p
                    ORDER BY p) AS after_id
            FROM outbox.job_groups AS known
            LEFT JOIN taken ON taken.name = known.job_group
            CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN limits.group_order = 'any' AND known.concurrency IS NULL AND limits.group_concurrency IS NULL THEN '{}'
                    ELSE ARRAY(
                        SELECT job.id
                        FROM outbox.jobs AS job
                        WHERE job.id = ANY (known.holders || taken.ids)
                          AND job.lease_token IS NOT NULL)
                END AS ids
            ) AS running
            LEFT JOIN LATERAL (
                SELECT noted.started_at, noted.started
                FROM outbox.note_starts(known.started_at, known.started, limits.group_rate_period, coalesce(taken.jobs, 0)::integer) AS noted
                WHERE limits.group_rate IS NOT NULL
            ) AS starts ON true
            LEFT JOIN LATERAL (
                SELECT job.id, job.lease_token, job.run_at
                FROM outbox.jobs AS job
                WHERE limits.group_order = 'strict'
                  AND job.id = coalesce(taken.last_id, known.head)
                LIMIT 1
            ) AS head ON true
            LEFT JOIN LATERAL (
                SELECT waiting.priority, waiting.run_at, waiting.id
                FROM outbox.due_in_group(claim_in_turn.queue, known.job_group, known.after_run_at, known.after_id) AS waiting
                LIMIT 1
            ) AS next ON true
            WHERE known.queue = claim_in_turn.queue
              AND known.job_group = ANY (line)
        ),
        judged AS MATERIALIZED (
            SELECT
                fact.*,
                CASE
                    WHEN known.paused_until > now() THEN 'later'
                    WHEN fact.head_runs THEN 'full'
                    WHEN fact.head_waits_or_runs AND fact.head_run_at > now() THEN 'later'
                    WHEN fact.head_waits_or_runs THEN 'ready'
                    WHEN fact.head_is_dead THEN 'failed'
                    WHEN NOT fact.has_due THEN 'idle'
                    WHEN cardinality(fact.running) >= fact.most THEN 'full'
                    WHEN fact.started_jobs >= limits.group_rate THEN 'later'
                    ELSE 'ready'
                END AS state
            FROM fact
            JOIN outbox.job_groups AS known ON known.queue = claim_in_turn.queue AND known.job_group = fact.job_group
        ),
        settled AS (
            UPDATE outbox.job_groups AS known
            SET state = judged.state,
                -- Who stays in line and had nothing for this worker goes behind the others: they may have.
                turn = known.turn + greatest(judged.jobs, CASE WHEN judged.state = 'ready' AND coalesce(cardinality(picked), 0) < room THEN 1 ELSE 0 END) / known.weight,
                look_at = CASE judged.state
                    WHEN 'full' THEN now() + interval '30 seconds'
                    WHEN 'later' THEN CASE
                        WHEN known.paused_until > now() THEN known.paused_until
                        -- Sooner than that where it is cancelled, or made due by an operator.
                        WHEN judged.head_waits_or_runs THEN least(judged.head_run_at, now() + interval '30 seconds')
                        ELSE judged.started_at[1] + limits.group_rate_period
                    END
                END,
                paused_until = CASE WHEN known.paused_until > now() THEN known.paused_until END,
                pause_reason = CASE WHEN known.paused_until > now() THEN known.pause_reason END,
                head = CASE WHEN judged.head_waits_or_runs OR judged.head_is_dead THEN judged.head END,
                holders = judged.running,
                started_at = coalesce(judged.started_at, '{}'),
                started = coalesce(judged.started, '{}'),
                after_run_at = judged.after_run_at,
                after_id = judged.after_id
            FROM judged
            WHERE known.queue = claim_in_turn.queue
              AND known.job_group = judged.job_group
            RETURNING known.state
        )
        SELECT count(*) FILTER (WHERE settled.state = 'ready')
        INTO stayed
        FROM settled;

        room := room - coalesce(cardinality(picked), 0);
        all_picked := all_picked || coalesce(picked, '{}');
        EXIT WHEN claim_in_turn.suspects OR (picked IS NULL AND stayed = cardinality(line));
    END LOOP;

    IF cardinality(all_picked) > 0 AND (limits.concurrency IS NOT NULL OR limits.rate IS NOT NULL) THEN
        UPDATE outbox.queues AS known
        SET holders = CASE WHEN limits.concurrency IS NULL THEN '{}' ELSE limits.holders || all_picked END,
            (started_at, started) = (
                SELECT coalesce(noted.started_at, '{}'), coalesce(noted.started, '{}')
                FROM (SELECT 1) AS one
                LEFT JOIN LATERAL outbox.note_starts(known.started_at, known.started, limits.rate_period, cardinality(all_picked)) AS noted ON limits.rate IS NOT NULL)
        WHERE known.name = claim_in_turn.queue;
    END IF;
END
$$;

-- After jobs have ended or were given back: full groups come into line again. Their rows are locked before that is decided: a claim that has just
-- counted the job as running must not have the last word. A group for which this was lost is looked at half a minute after it was full.
CREATE FUNCTION outbox.free_groups(queues text[], groups text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM
    FROM (SELECT DISTINCT each.queue, coalesce(each.name, '') AS name FROM unnest(free_groups.queues, free_groups.groups) AS each (queue, name)) AS freed
    JOIN outbox.job_groups AS known ON known.queue = freed.queue AND known.job_group = freed.name
    ORDER BY known.queue, known.job_group
    FOR NO KEY UPDATE OF known;

    UPDATE outbox.job_groups AS known
    SET state = 'ready',
        look_at = NULL,
        turn = greatest(known.turn, freed.turn)
    FROM (
        SELECT of_queue.queue, coalesce(each.name, '') AS name, of_queue.turn
        FROM (
            SELECT each_queue.queue, outbox.present_turn(each_queue.queue) AS turn
            FROM (SELECT DISTINCT queue FROM unnest(free_groups.queues) AS queue) AS each_queue
            OFFSET 0
        ) AS of_queue
        JOIN unnest(free_groups.queues, free_groups.groups) AS each (queue, name) ON each.queue = of_queue.queue
    ) AS freed
    WHERE known.queue = freed.queue
      AND known.job_group = freed.name
      AND known.state = 'full';
END
$$;

-- Another system asks to be left alone: no job of these groups starts for so long (microseconds), in a queue without limits no job of the queue.
CREATE FUNCTION outbox.push_back(queues text[], groups text[], delays bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO outbox.job_groups AS known (queue, job_group, state, look_at, paused_until)
    SELECT pushed.queue, pushed.name, 'later', pushed.until, pushed.until
    FROM (
        SELECT each.queue, coalesce(each.name, '') AS name, clock_timestamp() + max(each.delay) * interval '1 microsecond' AS until
        FROM unnest(push_back.queues, push_back.groups, push_back.delays) AS each (queue, name, delay)
        JOIN outbox.queues AS limits ON limits.name = each.queue AND limits.limited
        GROUP BY each.queue, coalesce(each.name, '')
    ) AS pushed
    ORDER BY pushed.queue, pushed.name
    ON CONFLICT (queue, job_group) DO UPDATE
    SET state = 'later',
        look_at = greatest(known.paused_until, excluded.paused_until),
        paused_until = greatest(known.paused_until, excluded.paused_until);

    INSERT INTO outbox.queues AS known (name, paused_until)
    SELECT each.queue, clock_timestamp() + max(each.delay) * interval '1 microsecond'
    FROM unnest(push_back.queues, push_back.delays) AS each (queue, delay)
    WHERE NOT EXISTS (SELECT FROM outbox.queues AS limits WHERE limits.name = each.queue AND limits.limited)
    GROUP BY each.queue
    ORDER BY each.queue
    ON CONFLICT (name) DO UPDATE
    SET paused_until = greatest(known.paused_until, excluded.paused_until);
END
$$;

-- Sets the limits of a queue, or takes them away, and what they kept back may come into line. declared: by an application's own code, and only where
-- that says something else than the last time. Returns whether they were set.
CREATE FUNCTION outbox.set_limits(
    queue text, limited boolean, concurrency integer, rate integer, rate_period interval, group_concurrency integer, group_rate integer,
    group_rate_period interval, group_order text, declared text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO outbox.queues AS known (
        name, limited, concurrency, rate, rate_period, group_concurrency, group_rate, group_rate_period, group_order, limits_declared)
    VALUES (queue, limited, concurrency, rate, rate_period, group_concurrency, group_rate, group_rate_period, group_order, declared)
    ON CONFLICT (name) DO UPDATE
    SET limited = excluded.limited,
        concurrency = excluded.concurrency,
        rate = excluded.rate,
        rate_period = excluded.rate_period,
        group_concurrency = excluded.group_concurrency,
        group_rate = excluded.group_rate,
        group_rate_period = excluded.group_rate_period,
        group_order = excluded.group_order,
        limits_declared = coalesce(excluded.limits_declared, known.limits_declared)
    WHERE declared IS NULL
       OR known.limits_declared IS DISTINCT FROM declared;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    PERFORM
    FROM outbox.job_groups AS known
    WHERE known.queue = set_limits.queue
    ORDER BY known.job_group
    FOR NO KEY UPDATE;
    UPDATE outbox.job_groups AS known
    SET state = 'ready',
        look_at = NULL
    WHERE known.queue = set_limits.queue
      AND known.state <> 'idle'
      AND known.paused_until IS NULL;
    RETURN true;
END
$$;

REVOKE ALL ON FUNCTION outbox.set_limits(text, boolean, integer, integer, interval, integer, integer, interval, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.file_groups(text, timestamptz[], uuid[], integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.claim_in_turn(text, integer, boolean, text[], uuid, integer, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.free_groups(text[], text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.push_back(text[], text[], bigint[]) FROM PUBLIC;

-- As before, and what moves between the tables keeps its group.
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

    IF complete_job.history < 2 OR job.workflow_id IS NOT NULL OR complete_job.result IS NOT NULL THEN
        INSERT INTO outbox.job_history (
            id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
            state, queue, kind, args, headers, traceparent, workflow_id, depends_on, job_group, result, errors)
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
    job_group
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
    job_group
FROM outbox.job_history;
