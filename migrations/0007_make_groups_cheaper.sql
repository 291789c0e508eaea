-- Why: a claim in turn cost three to eight times a plain one, and what ended waited for claims.

-- Some thousand ids that do not compress.
ALTER TABLE outbox.queues ALTER COLUMN holders SET STORAGE EXTERNAL;

-- Partial, so that no plan can take them for finding a group by its name: one that was made while the table was empty did, and was kept.
DROP INDEX outbox.job_groups_turn;
CREATE INDEX job_groups_in_line ON outbox.job_groups (queue, turn) WHERE state = 'ready';
CREATE INDEX job_groups_out_of_line ON outbox.job_groups (queue, turn) WHERE state <> 'ready';

CREATE OR REPLACE FUNCTION outbox.present_turn(queue text) RETURNS double precision
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
            SELECT last.turn
            FROM outbox.job_groups AS last
            WHERE last.queue = present_turn.queue
              AND last.state <> 'ready'
            ORDER BY last.turn DESC
            LIMIT 1
        ),
        0)
$$;

-- How many jobs of a queue may start, of max_jobs, by the limits of the queue itself. Where it has some its row is locked until the transaction
-- ends, before what runs is counted, by a statement of its own: no two claims count the same room.
CREATE FUNCTION outbox.room_in_queue(queue text, max_jobs integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    limits outbox.queues;
    room   integer := max_jobs;
BEGIN
    SELECT *
    INTO limits
    FROM outbox.queues
    WHERE name = room_in_queue.queue;
    IF limits.concurrency IS NOT NULL OR limits.rate IS NOT NULL THEN
        SELECT *
        INTO limits
        FROM outbox.queues
        WHERE name = room_in_queue.queue
        FOR NO KEY UPDATE;
    END IF;
    IF limits.limited IS NOT TRUE OR limits.paused_at IS NOT NULL OR limits.paused_until > now() THEN
        RETURN 0;
    END IF;
    IF cardinality(limits.holders) + room > limits.concurrency THEN
        room := least(room, limits.concurrency - (
            SELECT count(*)::integer
            FROM outbox.jobs
            WHERE id = ANY (limits.holders)
              AND lease_token IS NOT NULL));
    END IF;
    IF limits.rate IS NOT NULL THEN
        room := least(room, limits.rate - (
            SELECT coalesce(sum(each.jobs), 0)
            FROM unnest(limits.started_at, limits.started) AS each (at, jobs)
            WHERE each.at > clock_timestamp() - limits.rate_period));
    END IF;
    RETURN greatest(room, 0);
END
$$;

-- Notes which jobs of a queue with limits of its own were started. Those that have ended since are forgotten when there are many: to ask of
-- each costs about as much as to write a hundred of them.
CREATE FUNCTION outbox.note_started(queue text, ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    UPDATE outbox.queues AS known
    SET holders = CASE
            WHEN known.concurrency IS NULL THEN '{}'
            WHEN cardinality(known.holders) > least(known.concurrency, 5000) THEN ARRAY(
                SELECT job.id
                FROM outbox.jobs AS job
                WHERE job.id = ANY (known.holders)
                  AND job.lease_token IS NOT NULL) || note_started.ids
            ELSE known.holders || note_started.ids
        END,
        (started_at, started) = (
            SELECT coalesce(noted.started_at, '{}'), coalesce(noted.started, '{}')
            FROM (SELECT 1) AS one
            LEFT JOIN LATERAL outbox.note_starts(known.started_at, known.started, known.rate_period, cardinality(note_started.ids)) AS noted ON known.rate IS NOT NULL)
    WHERE known.name = note_started.queue
      AND (known.concurrency IS NOT NULL OR known.rate IS NOT NULL)
      AND cardinality(note_started.ids) > 0;
END
$$;

-- As before, but it locks, and waits for a claim, only where there is something to decide. A row that says the right thing already and that nobody
-- has locked (xmax = 0) is left alone: who locks it later reads what was committed before this look. And names are in one order for all who lock
-- several rows, whatever the database's collation.
CREATE OR REPLACE FUNCTION outbox.file_groups(
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
            SELECT coalesce(job.job_group, '') AS name, job.run_at, job.id, job.lease_token IS NULL AND job.cancel_requested_at IS NULL AS waits
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
            SELECT DISTINCT ON (seen.name) seen.name, seen.run_at, seen.id
            FROM seen
            WHERE seen.waits
            ORDER BY seen.name, seen.run_at, seen.id
        ),
        news AS (
            SELECT by_group.name, by_group.run_at, by_group.id
            FROM by_group
            LEFT JOIN LATERAL (
                SELECT
                    known.xmax = 0
                    AND known.state NOT IN ('idle', 'failed')
                    AND (known.after_run_at[level], known.after_id[level]) <= (by_group.run_at, by_group.id) AS is_right
                FROM outbox.job_groups AS known
                WHERE known.queue = file_groups.queue
                  AND known.job_group = by_group.name
                OFFSET 0
            ) AS known ON true
            WHERE known.is_right IS NOT TRUE
        )
        SELECT
            (SELECT count(*) FROM seen) AS jobs,
            (SELECT seen.run_at FROM seen OFFSET (SELECT greatest(count(*), 1) - 1 FROM seen) LIMIT 1) AS last_at,
            (SELECT seen.id FROM seen OFFSET (SELECT greatest(count(*), 1) - 1 FROM seen) LIMIT 1) AS last_id,
            array_agg(news.name) AS names,
            array_agg(news.run_at) AS first_at,
            array_agg(news.id) AS first_id
        INTO of_level
        FROM news;
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
    ORDER BY each.name COLLATE "C"
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

-- As before, and where each job lies.
DROP FUNCTION outbox.due_in_group(text, text, timestamptz[], uuid[]);
CREATE FUNCTION outbox.due_in_group(queue text, job_group text, after_run_at timestamptz[], after_id uuid[])
RETURNS TABLE (place tid, id uuid, priority smallint, run_at timestamptz, kind text, is_suspect boolean)
LANGUAGE sql STABLE
AS $$
    (
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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
        SELECT job.ctid, job.id, job.priority::smallint, job.run_at::timestamptz, job.kind::text, job.crashes >= 2
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

-- Claims jobs of a limited queue for a worker, at most max_jobs: of the groups in line, the one with the lowest turn first, each within its limits
-- and all within those of the queue. What is claimed counts as running as long as its lease lasts, and is the worker's as after claim_jobs.sql.
-- Invariants: the row of a group, and that of the queue where it has limits of its own, is locked before what runs is counted, by a statement of
-- its own: no two claims count the same room. A claim waits for no group. What stays in line, or leaves it, is decided under that lock.
CREATE OR REPLACE FUNCTION outbox.claim_in_turn(
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
    room       integer := outbox.room_in_queue(claim_in_turn.queue, claim_in_turn.max_jobs);
    wanted     integer;
    line       text[];
    picked     uuid[];
    places     tid[];
    of_group   text[];
    all_picked uuid[] := '{}';
    claimed    integer;
    barren     text[] := '{}';
    barren_now text[];
    turn_now   double precision;
BEGIN
    IF room = 0 THEN
        RETURN;
    END IF;
    SELECT *
    INTO limits
    FROM outbox.queues
    WHERE name = claim_in_turn.queue;

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
            -- To visit a group costs as much as to claim several jobs: where many are claimed, up to fifty of each. But who had nothing for this
            -- worker, and stays in line, must not keep it from the next.
            wanted := CASE
                WHEN cardinality(barren) > 0 THEN 100
                WHEN limits.group_order = 'any' THEN least(250, room, greatest(10, ceil(room / least(50.0, limits.group_concurrency, limits.group_rate))))
                ELSE least(250, room)
            END;
            SELECT array_agg(first.job_group)
            INTO line
            FROM (
                SELECT job_group
                FROM outbox.job_groups
                WHERE queue = claim_in_turn.queue
                  AND state = 'ready'
                  AND job_group <> ALL (barren)
                ORDER BY turn
                LIMIT wanted
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS first;
        END IF;
        EXIT WHEN line IS NULL;

        WITH lane AS MATERIALIZED (
            SELECT
                known.*,
                greatest(0, least(
                    most.jobs,
                    most.of_group - CASE
                        WHEN cardinality(known.holders) + most.jobs <= most.of_group THEN cardinality(known.holders)
                        ELSE (
                            SELECT count(*)
                            FROM outbox.jobs AS job
                            WHERE job.id = ANY (known.holders)
                              AND job.lease_token IS NOT NULL)
                    END,
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
            FROM (
                SELECT by_name.*, sum(by_name.weight) OVER () AS weights
                FROM unnest(line) AS each (name)
                CROSS JOIN LATERAL (
                    SELECT *
                    FROM outbox.job_groups AS group_row
                    WHERE group_row.queue = claim_in_turn.queue
                      AND group_row.job_group = each.name
                    OFFSET 0
                ) AS by_name
            ) AS known
            CROSS JOIN LATERAL (
                SELECT
                    ceil(room * known.weight / known.weights)::integer + 1 AS jobs,
                    CASE WHEN limits.group_order = 'any' THEN coalesce(known.concurrency, limits.group_concurrency) ELSE 1 END AS of_group
            ) AS most
        ),
        candidates AS (
            SELECT
                lane.job_group,
                due.place,
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
                    SELECT job.ctid, job.id, job.priority, job.run_at, job.kind, job.crashes >= 2
                    FROM outbox.jobs AS job
                    WHERE lane.head_first
                      AND job.id = lane.head
                      AND job.priority > 0
                      AND job.run_at <= now()
                      AND job.lease_token IS NULL
                      AND job.cancel_requested_at IS NULL
                    LIMIT lane.free
                )
            ) AS due (place, id, priority, run_at, kind, is_suspect)
            WHERE due.kind = ANY (claim_in_turn.kinds)
              AND due.is_suspect = claim_in_turn.suspects
        )
        SELECT array_agg(best.place), array_agg(best.id), array_agg(best.job_group)
        INTO places, picked, of_group
        FROM (
            SELECT *
            FROM candidates
            ORDER BY tag, job_group
            LIMIT room
        ) AS best;

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

            -- By place, in the order of their turns.
            RETURN QUERY
            WITH locked AS MATERIALIZED (
                SELECT job.ctid AS place
                FROM unnest(places) AS pick (place)
                JOIN outbox.jobs AS job ON job.ctid = pick.place
                WHERE job.lease_token IS NULL
                  AND job.cancel_requested_at IS NULL
                FOR NO KEY UPDATE OF job SKIP LOCKED
            )
            UPDATE outbox.jobs AS job
            SET attempt = least(attempt, 2147483646) + 1,
                lease_token = claim_in_turn.lease_token,
                worker_id = claim_in_turn.worker,
                claimed_at = clock_timestamp()
            FROM locked
            WHERE job.ctid = locked.place
            RETURNING job.*;
            GET DIAGNOSTICS claimed = ROW_COUNT;
            IF claimed < cardinality(picked) THEN
                SELECT array_agg(pick.id), array_agg(pick.name)
                INTO picked, of_group
                FROM unnest(picked, of_group) AS pick (id, name)
                WHERE EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = pick.id AND job.lease_token = claim_in_turn.lease_token);
            END IF;
        END IF;

        WITH visit AS MATERIALIZED (
            SELECT each.name, array_remove(array_agg(each.id), NULL) AS taken
            FROM (
                SELECT name, NULL::uuid AS id
                FROM unnest(line) AS name
                UNION ALL
                SELECT pick.name, pick.id
                FROM unnest(of_group, picked) AS pick (name, id)
            ) AS each
            GROUP BY each.name
        ),
        fact AS MATERIALIZED (
            SELECT
                known.*,
                cardinality(visit.taken) AS jobs,
                running.ids AS running,
                CASE WHEN limits.group_order = 'any' THEN coalesce(known.concurrency, limits.group_concurrency) ELSE 1 END AS most,
                starts.started_at AS now_started_at,
                starts.started AS now_started,
                (SELECT sum(each) FROM unnest(starts.started) AS each) AS started_jobs,
                coalesce(visit.taken[1], known.head) AS now_head,
                head.id IS NOT NULL AS head_waits_or_runs,
                head.lease_token IS NOT NULL AS head_runs,
                head.run_at AS head_run_at,
                limits.group_order = 'strict' AND head.id IS NULL AND (
                    SELECT past.state = 'dead'
                    FROM outbox.job_history AS past
                    WHERE past.id = coalesce(visit.taken[1], known.head)
                    ORDER BY past.finished_at DESC
                    LIMIT 1) IS TRUE AS head_is_dead,
                -- Before the next one there is none that is due; what comes to lie there is put in line with its place.
                coalesce(next.priority, 5) AS next_priority,
                next.run_at AS next_run_at,
                next.id AS next_id
            FROM visit
            CROSS JOIN LATERAL (
                SELECT by_name.ctid AS place, by_name.*
                FROM outbox.job_groups AS by_name
                WHERE by_name.queue = claim_in_turn.queue
                  AND by_name.job_group = visit.name
                OFFSET 0
            ) AS known
            CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN limits.group_order = 'any' AND known.concurrency IS NULL AND limits.group_concurrency IS NULL THEN '{}'
                    WHEN limits.group_order = 'any' AND cardinality(known.holders) + cardinality(visit.taken) < least(coalesce(known.concurrency, limits.group_concurrency), 100) THEN known.holders || visit.taken
                    ELSE ARRAY(
                        SELECT job.id
                        FROM outbox.jobs AS job
                        WHERE job.id = ANY (known.holders || visit.taken)
                          AND job.lease_token IS NOT NULL)
                END AS ids
            ) AS running
            LEFT JOIN LATERAL (
                SELECT noted.started_at, noted.started
                FROM outbox.note_starts(known.started_at, known.started, limits.group_rate_period, cardinality(visit.taken)) AS noted
                WHERE limits.group_rate IS NOT NULL
            ) AS starts ON true
            LEFT JOIN LATERAL (
                SELECT job.id, job.lease_token, job.run_at
                FROM outbox.jobs AS job
                WHERE limits.group_order = 'strict'
                  AND job.id = coalesce(visit.taken[1], known.head)
                LIMIT 1
            ) AS head ON true
            LEFT JOIN LATERAL (
                SELECT waiting.priority, waiting.run_at, waiting.id
                FROM outbox.due_in_group(claim_in_turn.queue, known.job_group, known.after_run_at, known.after_id) AS waiting
                LIMIT 1
            ) AS next ON true
        ),
        judged AS MATERIALIZED (
            SELECT
                fact.*,
                CASE
                    WHEN fact.paused_until > now() THEN 'later'
                    WHEN fact.head_runs THEN 'full'
                    WHEN fact.head_waits_or_runs AND fact.head_run_at > now() THEN 'later'
                    WHEN fact.head_waits_or_runs THEN 'ready'
                    WHEN fact.head_is_dead THEN 'failed'
                    WHEN fact.next_id IS NULL THEN 'idle'
                    WHEN cardinality(fact.running) >= fact.most THEN 'full'
                    WHEN fact.started_jobs >= limits.group_rate THEN 'later'
                    ELSE 'ready'
                END AS now_state
            FROM fact
        ),
        settled AS (
            UPDATE outbox.job_groups AS known
            SET state = judged.now_state,
                -- Who stays in line and had nothing for this worker goes behind the others: they may have.
                turn = judged.turn + greatest(judged.jobs, CASE WHEN judged.now_state = 'ready' AND coalesce(cardinality(picked), 0) < room THEN 1 ELSE 0 END) / judged.weight,
                look_at = CASE judged.now_state
                    WHEN 'full' THEN now() + interval '30 seconds'
                    WHEN 'later' THEN CASE
                        WHEN judged.paused_until > now() THEN judged.paused_until
                        -- Sooner than that where it is cancelled, or made due by an operator.
                        WHEN judged.head_waits_or_runs THEN least(judged.head_run_at, now() + interval '30 seconds')
                        ELSE judged.now_started_at[1] + limits.group_rate_period
                    END
                END,
                paused_until = CASE WHEN judged.paused_until > now() THEN judged.paused_until END,
                pause_reason = CASE WHEN judged.paused_until > now() THEN judged.pause_reason END,
                head = CASE WHEN judged.head_waits_or_runs OR judged.head_is_dead THEN judged.now_head END,
                holders = judged.running,
                started_at = coalesce(judged.now_started_at, '{}'),
                started = coalesce(judged.now_started, '{}'),
                after_run_at = ARRAY[
                    CASE WHEN next_priority > 1 THEN now() ELSE next_run_at END,
                    CASE WHEN next_priority > 2 THEN now() WHEN next_priority = 2 THEN next_run_at ELSE judged.after_run_at[2] END,
                    CASE WHEN next_priority > 3 THEN now() WHEN next_priority = 3 THEN next_run_at ELSE judged.after_run_at[3] END,
                    CASE WHEN next_priority > 4 THEN now() WHEN next_priority = 4 THEN next_run_at ELSE judged.after_run_at[4] END],
                after_id = ARRAY[
                    CASE WHEN next_priority > 1 THEN '00000000-0000-0000-0000-000000000000' ELSE next_id END,
                    CASE WHEN next_priority > 2 THEN '00000000-0000-0000-0000-000000000000' WHEN next_priority = 2 THEN next_id ELSE judged.after_id[2] END,
                    CASE WHEN next_priority > 3 THEN '00000000-0000-0000-0000-000000000000' WHEN next_priority = 3 THEN next_id ELSE judged.after_id[3] END,
                    CASE WHEN next_priority > 4 THEN '00000000-0000-0000-0000-000000000000' WHEN next_priority = 4 THEN next_id ELSE judged.after_id[4] END]
            FROM judged
            WHERE known.ctid = judged.place
            RETURNING known.job_group, known.state, judged.jobs
        )
        SELECT array_agg(settled.job_group) FILTER (WHERE settled.state = 'ready' AND settled.jobs = 0)
        INTO barren_now
        FROM settled;

        room := room - coalesce(cardinality(picked), 0);
        all_picked := all_picked || coalesce(picked, '{}');
        barren := barren || barren_now;
        EXIT WHEN claim_in_turn.suspects;
    END LOOP;

    PERFORM outbox.note_started(claim_in_turn.queue, all_picked);
END
$$;

-- As before, but it locks, and waits for a claim, only where there is something to decide (see file_groups). And in strict order a group whose first
-- job waits for its time is looked at again: an operator may have changed that.
CREATE OR REPLACE FUNCTION outbox.free_groups(queues text[], groups text[]) RETURNS void
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
    full_queues text[];
    full_groups text[];
BEGIN
    SELECT array_agg(known.queue ORDER BY known.queue, known.job_group), array_agg(known.job_group ORDER BY known.queue, known.job_group)
    INTO full_queues, full_groups
    FROM (
        SELECT DISTINCT each.queue, coalesce(each.name, '') AS name
        FROM unnest(free_groups.queues, free_groups.groups) AS each (queue, name)
    ) AS freed
    CROSS JOIN LATERAL (
        SELECT
            by_name.queue,
            by_name.job_group,
            by_name.state = 'full'
            OR (by_name.state = 'later' AND by_name.head IS NOT NULL)
            OR (by_name.xmax <> 0 AND (
                by_name.concurrency IS NOT NULL
                OR EXISTS (
                    SELECT
                    FROM outbox.queues AS limits
                    WHERE limits.name = by_name.queue
                      AND (limits.group_concurrency IS NOT NULL OR limits.group_order <> 'any')))) AS may_be_full
        FROM outbox.job_groups AS by_name
        WHERE by_name.queue = freed.queue
          AND by_name.job_group = freed.name
        OFFSET 0
    ) AS known
    WHERE known.may_be_full;
    IF full_queues IS NULL THEN
        RETURN;
    END IF;

    PERFORM
    FROM unnest(full_queues, full_groups) AS freed (queue, name)
    CROSS JOIN LATERAL (
        SELECT
        FROM outbox.job_groups AS by_name
        WHERE by_name.queue = freed.queue
          AND by_name.job_group = freed.name
        FOR NO KEY UPDATE
    ) AS locked;

    UPDATE outbox.job_groups AS known
    SET state = 'ready',
        look_at = NULL,
        turn = greatest(known.turn, freed.turn)
    FROM (
        SELECT by_name.ctid AS place, of_queue.turn
        FROM (
            SELECT each_queue.queue, outbox.present_turn(each_queue.queue) AS turn
            FROM (SELECT DISTINCT queue FROM unnest(full_queues) AS queue) AS each_queue
            OFFSET 0
        ) AS of_queue
        JOIN unnest(full_queues, full_groups) AS each (queue, name) ON each.queue = of_queue.queue
        CROSS JOIN LATERAL (
            SELECT group_row.ctid
            FROM outbox.job_groups AS group_row
            WHERE group_row.queue = each.queue
              AND group_row.job_group = each.name
              AND (group_row.state = 'full' OR (group_row.state = 'later' AND group_row.head IS NOT NULL AND group_row.paused_until IS NULL))
            OFFSET 0
        ) AS by_name
    ) AS freed
    WHERE known.ctid = freed.place;
END
$$;

-- As before, but in the order in which all others lock, whatever the database's collation.
CREATE OR REPLACE FUNCTION outbox.push_back(queues text[], groups text[], delays bigint[]) RETURNS void
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
    ORDER BY pushed.queue COLLATE "C", pushed.name COLLATE "C"
    ON CONFLICT (queue, job_group) DO UPDATE
    SET state = 'later',
        look_at = greatest(known.paused_until, excluded.paused_until),
        paused_until = greatest(known.paused_until, excluded.paused_until);

    INSERT INTO outbox.queues AS known (name, paused_until)
    SELECT each.queue, clock_timestamp() + max(each.delay) * interval '1 microsecond'
    FROM unnest(push_back.queues, push_back.delays) AS each (queue, delay)
    WHERE NOT EXISTS (SELECT FROM outbox.queues AS limits WHERE limits.name = each.queue AND limits.limited)
    GROUP BY each.queue
    ORDER BY each.queue COLLATE "C"
    ON CONFLICT (name) DO UPDATE
    SET paused_until = greatest(known.paused_until, excluded.paused_until);
END
$$;

-- As before, but in the order in which claims lock: groups, then their queue.
CREATE OR REPLACE FUNCTION outbox.set_limits(
    queue text, limited boolean, concurrency integer, rate integer, rate_period interval, group_concurrency integer, group_rate integer,
    group_rate_period interval, group_order text, declared text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF EXISTS (SELECT FROM outbox.queues AS known WHERE known.name = queue AND known.limits_declared = declared) THEN
        RETURN false;
    END IF;

    PERFORM
    FROM outbox.job_groups AS known
    WHERE known.queue = set_limits.queue
    ORDER BY known.job_group
    FOR NO KEY UPDATE;
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

    UPDATE outbox.job_groups AS known
    SET state = 'ready',
        look_at = NULL
    WHERE known.queue = set_limits.queue
      AND known.state <> 'idle'
      AND known.paused_until IS NULL;
    RETURN true;
END
$$;

REVOKE ALL ON FUNCTION outbox.room_in_queue(text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.note_started(text, uuid[]) FROM PUBLIC;
