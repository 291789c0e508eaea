-- The queues with limits, by name: what they are, how much of them is used now, and how many of their groups stand where.
-- Bounded: 100 queues; of each at most 10,000 jobs by their ids and 10,000 groups of each state.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;

SELECT
    limits.name AS queue,
    limits.concurrency,
    CASE
        WHEN limits.concurrency IS NOT NULL THEN (
            SELECT count(*)
            FROM outbox.queue_holders AS part
            JOIN outbox.jobs AS job ON job.id = ANY (part.ids)
            WHERE part.queue = limits.name
              AND job.lease_token IS NOT NULL)
    END AS running,
    limits.rate,
    limits.rate_period,
    CASE
        WHEN limits.rate IS NOT NULL THEN (
            SELECT coalesce(sum(each.jobs), 0)
            FROM unnest(limits.started_at, limits.started) AS each (at, jobs)
            WHERE each.at > clock_timestamp() - limits.rate_period)
    END AS started,
    limits.group_concurrency,
    limits.group_rate,
    limits.group_rate_period,
    limits.group_order,
    limits.paused_until,
    groups.ready,
    groups.blocked,
    groups.failed
FROM (
    SELECT *
    FROM outbox.queues
    WHERE limited
    ORDER BY name
    LIMIT 100
) AS limits
CROSS JOIN LATERAL (
    SELECT
        (sum(of_state.groups) FILTER (WHERE of_state.state = 'ready'))::bigint AS ready,
        (sum(of_state.groups) FILTER (WHERE of_state.state IN ('full', 'later')))::bigint AS blocked,
        (sum(of_state.groups) FILTER (WHERE of_state.state = 'failed'))::bigint AS failed
    FROM unnest('{ready,full,later,failed}'::text[]) AS states (state)
    CROSS JOIN LATERAL (
        SELECT states.state, count(*) AS groups
        FROM (
            SELECT
            FROM outbox.job_groups AS known
            WHERE known.queue = limits.name
              AND known.state = states.state
            LIMIT 10000
        ) AS counted
    ) AS of_state
) AS groups
ORDER BY limits.name
LIMIT 100;

COMMIT;
