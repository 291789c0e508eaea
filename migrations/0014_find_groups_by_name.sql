-- Why: where its plan was made while there were few groups, free_groups read all groups of the queue for each that it freed.

-- As before, but what says that a group is out of the line is asked after the group was found: no plan can take an index of those that are.
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
