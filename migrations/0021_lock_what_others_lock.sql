-- Why: a group that needs nothing was to be left alone unless somebody has it locked, but the row of one that was ever claimed from still names the
-- claim (xmax) long after that has ended: all of them were locked and decided each time.

-- As before, but a lock of a transaction that had ended when the statement began is none. (An xmax of 0 is older than any. A snapshot does not name
-- subtransactions: who decides that a group has nothing to do, or no room, must not run in one. Claims do not.)
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
                    age(known.xmax) > age(pg_snapshot_xmax(pg_current_snapshot())::xid)
                    AND known.xmax <> ALL (ARRAY(SELECT running.number::xid FROM pg_snapshot_xip(pg_current_snapshot()) AS running (number)))
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

-- The same.
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
            OR ((
                age(by_name.xmax) <= age(pg_snapshot_xmax(pg_current_snapshot())::xid)
                OR by_name.xmax = ANY (ARRAY(SELECT running.number::xid FROM pg_snapshot_xip(pg_current_snapshot()) AS running (number)))
            ) AND (
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
            SELECT group_row.ctid, group_row.state, group_row.head, group_row.paused_until
            FROM outbox.job_groups AS group_row
            WHERE group_row.queue = each.queue
              AND group_row.job_group = each.name
            OFFSET 0
        ) AS by_name
        WHERE by_name.state = 'full'
           OR (by_name.state = 'later' AND by_name.head IS NOT NULL AND by_name.paused_until IS NULL)
    ) AS freed
    WHERE known.ctid = freed.place;
END
$$;
