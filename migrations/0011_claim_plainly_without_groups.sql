-- Why: a queue with limits of its own, and no groups, paid for turns that nobody takes.

-- Whether jobs of a queue with limits are claimed in the turn of their groups: it has limits of groups or an order, or has had groups (of which one is kept,
-- see forget_groups.sql: else this look for a job with a group might walk the index entries of many that are gone). Null where it has no limits.
CREATE FUNCTION outbox.takes_turns(queue text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT
            limits.group_concurrency IS NOT NULL
            OR limits.group_rate IS NOT NULL
            OR limits.group_order <> 'any'
            OR EXISTS (SELECT FROM outbox.job_groups AS known WHERE known.queue = limits.name)
            OR EXISTS (SELECT FROM outbox.jobs AS job WHERE job.queue = limits.name AND job.job_group IS NOT NULL AND job.priority > 0)
        FROM outbox.queues AS limits
        WHERE limits.name = takes_turns.queue
          AND limits.limited);
END
$$;

REVOKE ALL ON FUNCTION outbox.takes_turns(text) FROM PUBLIC;
