-- Why: with new limits, groups that had been full had all turns until they had caught up, and starts that were noted for a longer period kept others
-- waiting for it.

-- As before, but a group that comes into line has no credit for the time before, and starts are forgotten that were counted for another period.
CREATE OR REPLACE FUNCTION outbox.set_limits(
    queue text, limited boolean, concurrency integer, rate integer, rate_period interval, group_concurrency integer, group_rate integer,
    group_rate_period interval, group_order text, declared text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    old_period interval;
    turn_now   double precision;
BEGIN
    IF EXISTS (SELECT FROM outbox.queues AS known WHERE known.name = queue AND known.limits_declared = declared) THEN
        RETURN false;
    END IF;

    PERFORM
    FROM outbox.job_groups AS known
    WHERE known.queue = set_limits.queue
    ORDER BY known.job_group
    FOR NO KEY UPDATE;
    SELECT known.group_rate_period
    INTO old_period
    FROM outbox.queues AS known
    WHERE known.name = set_limits.queue
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
        limits_declared = coalesce(excluded.limits_declared, known.limits_declared),
        started_at = CASE WHEN known.rate_period = excluded.rate_period THEN known.started_at ELSE '{}' END,
        started = CASE WHEN known.rate_period = excluded.rate_period THEN known.started ELSE '{}' END
    WHERE declared IS NULL
       OR known.limits_declared IS DISTINCT FROM declared;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    IF old_period IS DISTINCT FROM group_rate_period THEN
        UPDATE outbox.job_groups AS known
        SET started_at = '{}',
            started = '{}'
        WHERE known.queue = set_limits.queue;
    END IF;
    turn_now := outbox.present_turn(set_limits.queue);
    UPDATE outbox.job_groups AS known
    SET state = 'ready',
        look_at = NULL,
        turn = greatest(known.turn, turn_now)
    WHERE known.queue = set_limits.queue
      AND known.state <> 'idle'
      AND known.paused_until IS NULL;
    RETURN true;
END
$$;
