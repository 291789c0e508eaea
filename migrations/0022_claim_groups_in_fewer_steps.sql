-- Why: a claim of many jobs of many groups sorted them by group, found each by its place twice, and walked all of them again to see what each group has left.

-- Whether that job is dead. In a function of its own, as only strict order asks: a claim of other queues need not open the history.
CREATE FUNCTION outbox.died_last(id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce((
        SELECT past.state = 'dead'
        FROM outbox.job_history AS past
        WHERE past.id = died_last.id
        ORDER BY past.finished_at DESC
        LIMIT 1), false);
END
$$;

-- As before, in fewer steps: what is found is numbered as it comes, locked page by page, and where all before the last job that was taken of a group
-- were taken, the look for its next one begins there.
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
    of_group   integer[];
    all_picked uuid[] := '{}';
    locked     tid[];
    mixed      integer[];
    barren     text[] := '{}';
    barren_now text[];
    fertile    integer[];
    turn_now   double precision;
    last_turn  double precision;
    last_start double precision;
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
            -- To visit a group costs as much as to claim several jobs: where many are claimed, up to fifty of each, and twice as many groups where
            -- they had less. But who had nothing for this worker, and stays in line, must not keep it from the next.
            wanted := CASE
                WHEN cardinality(barren) > 0 THEN 100
                WHEN limits.group_order = 'any' THEN least(250, room, greatest(2 * wanted, 10, ceil(room / least(50.0, limits.group_concurrency, limits.group_rate))))
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
                most.jobs AS looked_for,
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
                    OR outbox.died_last(known.head)) AS head_first
            FROM (
                -- All turns come to the level where all have as many jobs as are claimed; where some have not, the others get what is left.
                SELECT
                    by_turn.*,
                    min(by_turn.level_of_first) OVER () AS level,
                    sum(by_turn.weight) OVER () AS weights
                FROM (
                    SELECT
                        each.nr,
                        by_name.*,
                        (room + sum(by_name.weight * by_name.turn) OVER first) / sum(by_name.weight) OVER first AS level_of_first
                    FROM unnest(line) WITH ORDINALITY AS each (name, nr)
                    CROSS JOIN LATERAL (
                        SELECT *
                        FROM outbox.job_groups AS group_row
                        WHERE group_row.queue = claim_in_turn.queue
                          AND group_row.job_group = each.name
                        OFFSET 0
                    ) AS by_name
                    WINDOW first AS (ORDER BY by_name.turn)
                ) AS by_turn
            ) AS known
            CROSS JOIN LATERAL (
                SELECT
                    ceil(greatest((known.level - known.turn) * known.weight, room * known.weight / known.weights + 1))::integer AS jobs,
                    CASE WHEN limits.group_order = 'any' THEN coalesce(known.concurrency, limits.group_concurrency) ELSE 1 END AS of_group
            ) AS most
        ),
        candidates AS MATERIALIZED (
            SELECT
                lane.nr::integer AS nr,
                due.place,
                due.id,
                due.number,
                due.position,
                lane.turn + (due.number - 1) / lane.weight AS tag,
                -- That of the one after the last that was looked for.
                CASE WHEN due.number = lane.looked_for THEN lane.turn + due.number / lane.weight END AS next_tag
            FROM lane
            CROSS JOIN LATERAL (
                (
                    -- Numbered as they come: no sort.
                    SELECT known.place, known.id, known.kind, known.is_suspect, known.position, row_number() OVER () AS number
                    FROM (
                        SELECT waiting.*, row_number() OVER () AS position
                        FROM outbox.due_in_group(claim_in_turn.queue, lane.job_group, lane.after_run_at, lane.after_id) AS waiting
                        WHERE NOT lane.head_first
                    ) AS known
                    WHERE limits.group_order <> 'any' OR (known.kind = ANY (claim_in_turn.kinds) AND known.is_suspect = claim_in_turn.suspects)
                    LIMIT lane.free
                )
                UNION ALL
                (
                    SELECT job.ctid, job.id, job.kind, job.crashes >= 2, 1, 1
                    FROM outbox.jobs AS job
                    WHERE lane.head_first
                      AND job.id = lane.head
                      AND job.priority > 0
                      AND job.run_at <= now()
                      AND job.lease_token IS NULL
                      AND job.cancel_requested_at IS NULL
                    LIMIT lane.free
                )
            ) AS due
            WHERE due.kind = ANY (claim_in_turn.kinds)
              AND due.is_suspect = claim_in_turn.suspects
        )
        SELECT
            array_agg(best.place),
            array_agg(best.id),
            array_agg(best.nr),
            max(best.tag),
            (SELECT coalesce(array_agg(candidates.nr) FILTER (WHERE candidates.number = 1), '{}') FROM candidates),
            (SELECT coalesce(array_agg(candidates.nr) FILTER (WHERE candidates.number < candidates.position), '{}') FROM candidates)
        INTO places, picked, of_group, last_turn, fertile, mixed
        FROM (
            SELECT candidates.*
            FROM candidates
            -- None whose turn is after that of one that was not looked at: the next of a group that may have more, or the first of a group in another
            -- part of the line (but where many are claimed, up to the level).
            WHERE claim_in_turn.suspects
               OR (candidates.tag < (SELECT min(next_tag) FROM candidates)) IS NOT FALSE
              AND (
                  cardinality(line) < wanted
                  OR candidates.tag <= (SELECT max(turn) FROM lane)
                  OR (wanted < room AND candidates.tag <= (SELECT max(level) FROM lane)))
            ORDER BY tag, nr
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

            -- In the order of their pages. What somebody else has is left to him.
            SELECT array_agg(each.place)
            INTO locked
            FROM (
                SELECT job.ctid AS place
                FROM outbox.jobs AS job
                WHERE job.ctid = ANY (places)
                  AND job.lease_token IS NULL
                  AND job.cancel_requested_at IS NULL
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS each;
            IF cardinality(locked) IS DISTINCT FROM cardinality(places) THEN
                SELECT array_agg(pick.place), array_agg(pick.id), array_agg(pick.nr), array_agg(DISTINCT pick.nr)
                INTO places, picked, of_group, mixed
                FROM unnest(places, picked, of_group) AS pick (place, id, nr)
                WHERE pick.place = ANY (locked);
            END IF;

            -- By place, in the order of their turns. Nobody else has them, or may change them now.
            RETURN QUERY
            UPDATE outbox.jobs AS job
            SET attempt = least(attempt, 2147483646) + 1,
                lease_token = claim_in_turn.lease_token,
                worker_id = claim_in_turn.worker,
                claimed_at = clock_timestamp()
            FROM unnest(places) AS pick (place)
            WHERE job.ctid = pick.place
            RETURNING job.*;
        END IF;

        WITH visit AS MATERIALIZED (
            SELECT
                each.nr,
                line[each.nr] AS name,
                coalesce(array_agg(each.id ORDER BY each.number) FILTER (WHERE each.id IS NOT NULL), '{}') AS taken,
                each.nr = ANY (mixed) AS is_mixed
            FROM (
                SELECT named.nr::integer, NULL::uuid AS id, NULL::bigint AS number
                FROM unnest(line) WITH ORDINALITY AS named (name, nr)
                UNION ALL
                SELECT pick.nr, pick.id, pick.number
                FROM unnest(of_group, picked) WITH ORDINALITY AS pick (nr, id, number)
            ) AS each
            GROUP BY each.nr
        ),
        fact AS MATERIALIZED (
            SELECT
                known.*,
                cardinality(visit.taken) AS jobs,
                visit.nr <> ALL (fertile) AS is_barren,
                running.ids AS running,
                CASE WHEN limits.group_order = 'any' THEN coalesce(known.concurrency, limits.group_concurrency) ELSE 1 END AS most,
                starts.started_at AS now_started_at,
                starts.started AS now_started,
                (SELECT sum(each) FROM unnest(starts.started) AS each) AS started_jobs,
                coalesce(visit.taken[1], known.head) AS now_head,
                head.id IS NOT NULL AS head_waits_or_runs,
                head.lease_token IS NOT NULL AS head_runs,
                head.run_at AS head_run_at,
                limits.group_order = 'strict' AND head.id IS NULL AND outbox.died_last(coalesce(visit.taken[1], known.head)) AS head_is_dead,
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
                        WHERE job.id = ANY (known.holders)
                          AND job.id <> ALL (visit.taken)
                          AND job.lease_token IS NOT NULL) || visit.taken
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
            -- Where all before the last one that was taken were taken, those are not walked again.
            LEFT JOIN LATERAL (
                SELECT
                    known.after_run_at[:job.priority - 1] || job.run_at || known.after_run_at[job.priority + 1:] AS run_at,
                    known.after_id[:job.priority - 1] || job.id || known.after_id[job.priority + 1:] AS id
                FROM outbox.jobs AS job
                WHERE job.id = visit.taken[cardinality(visit.taken)]
                  AND limits.group_order = 'any'
                  AND NOT visit.is_mixed
                OFFSET 0
            ) AS last ON true
            LEFT JOIN LATERAL (
                SELECT waiting.priority, waiting.run_at, waiting.id
                FROM outbox.due_in_group(claim_in_turn.queue, known.job_group, coalesce(last.run_at, known.after_run_at), coalesce(last.id, known.after_id)) AS waiting
                LIMIT 1
            ) AS next ON true
        ),
        judged AS MATERIALIZED (
            SELECT
                fact.*,
                CASE
                    WHEN fact.paused_until > now() THEN 'later'
                    WHEN fact.head_runs THEN 'full'
                    WHEN fact.head_waits_or_runs AND (fact.head_run_at > now() OR fact.started_jobs >= limits.group_rate) THEN 'later'
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
                -- Who stays in line and had nothing for this worker goes behind the others: they may have. And who had less than its turn, for this
                -- worker, has no credit for the rest.
                turn = greatest(
                    judged.turn + CASE WHEN judged.is_barren AND judged.now_state = 'ready' AND coalesce(cardinality(picked), 0) < room THEN 1 ELSE judged.jobs END / judged.weight,
                    CASE WHEN judged.now_state = 'ready' AND NOT claim_in_turn.suspects THEN last_turn END),
                look_at = CASE judged.now_state
                    WHEN 'full' THEN 'infinity'
                    WHEN 'later' THEN CASE
                        WHEN judged.paused_until > now() THEN judged.paused_until
                        WHEN judged.head_waits_or_runs AND judged.head_run_at > now() THEN judged.head_run_at
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
            RETURNING known.job_group, known.state, judged.is_barren
        )
        SELECT array_agg(settled.job_group) FILTER (WHERE settled.state = 'ready' AND settled.is_barren)
        INTO barren_now
        FROM settled;

        room := room - coalesce(cardinality(picked), 0);
        all_picked := all_picked || coalesce(picked, '{}');
        barren := barren || barren_now;
        last_start := greatest(last_start, last_turn);
        EXIT WHEN claim_in_turn.suspects;
    END LOOP;

    IF NOT claim_in_turn.suspects AND last_start > limits.turn THEN
        UPDATE outbox.queues
        SET turn = last_start
        WHERE ctid = (
            SELECT ctid
            FROM outbox.queues
            WHERE name = claim_in_turn.queue
              AND turn < last_start
            FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    PERFORM outbox.note_started(claim_in_turn.queue, all_picked);
END
$$;
