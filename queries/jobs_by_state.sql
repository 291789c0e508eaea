-- How many jobs there are, by queue and state.
-- Bounded: looks at the first 10,000 due and the first 10,000 later jobs of each queue and priority, the 10,000 that gave up last, the first
-- 10,000 of the newest workflows, and 10,000 that are not compared with others of their key yet; at_least says that there are more. Running jobs are among the most due. What completed is counted by throughput_per_minute.sql.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;

-- From the end, where the rows of a busy queue live; its beginning is what was finished and not yet vacuumed.
WITH RECURSIVE queue_names AS (
    (
        SELECT queue
        FROM outbox.jobs
        WHERE priority > 0
        ORDER BY queue DESC
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT queue
        FROM outbox.jobs
        WHERE queue < queue_names.queue
          AND priority > 0
        ORDER BY queue DESC
        LIMIT 1
    )
    FROM queue_names
    WHERE queue_names.queue IS NOT NULL
),
ranges AS (
    SELECT queue, level
    FROM queue_names
    CROSS JOIN generate_series(1, 4) AS level
    WHERE queue IS NOT NULL
    LIMIT 1000
),
counts AS (
    SELECT
        ranges.queue,
        due.running,
        due.waiting,
        due.seen = 10000 AS more_due,
        later.scheduled,
        later.retrying,
        later.seen = 10000 AS more_later
    FROM ranges
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS seen,
            count(*) FILTER (WHERE lease_token IS NOT NULL) AS running,
            count(*) FILTER (WHERE lease_token IS NULL) AS waiting
        FROM (
            SELECT lease_token
            FROM outbox.jobs
            WHERE queue = ranges.queue
              AND priority = ranges.level
              AND priority > 0
              AND run_at <= now()
            ORDER BY run_at, id
            LIMIT 10000
        ) AS first_due
    ) AS due
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS seen,
            count(*) FILTER (WHERE failures = 0) AS scheduled,
            count(*) FILTER (WHERE failures > 0) AS retrying
        FROM (
            SELECT failures
            FROM outbox.jobs
            WHERE queue = ranges.queue
              AND priority = ranges.level
              AND priority > 0
              AND run_at > now()
            ORDER BY run_at, id
            LIMIT 10000
        ) AS first_later
    ) AS later
),
gave_up AS (
    SELECT queue, state
    FROM outbox.job_history
    WHERE state <> 'completed'
    ORDER BY finished_at DESC
    LIMIT 10000
),
blocked AS (
    (
        SELECT queue, priority
        FROM outbox.jobs
        WHERE workflow_id IS NOT NULL
        ORDER BY workflow_id DESC
        LIMIT 10000
    )
    UNION ALL
    (
        SELECT queue, priority
        FROM outbox.jobs
        WHERE unique_key IS NOT NULL
          AND priority < 0
          AND workflow_id IS NULL
        ORDER BY created_at, id
        LIMIT 10000
    )
),
by_state AS (
    SELECT counts.queue, each.state, each.jobs, each.at_least
    FROM counts
    CROSS JOIN LATERAL (
        VALUES
            ('running', running, more_due),
            ('waiting', waiting, more_due),
            ('scheduled', scheduled, more_later),
            ('retrying', retrying, more_later)
    ) AS each (state, jobs, at_least)
    UNION ALL
    SELECT queue, state, count(*), (SELECT count(*) = 10000 FROM gave_up)
    FROM gave_up
    GROUP BY queue, state
    UNION ALL
    SELECT queue, 'blocked', count(*), (SELECT count(*) >= 10000 FROM blocked)
    FROM blocked
    WHERE priority < 0
    GROUP BY queue
)
SELECT queue, state, sum(jobs)::bigint AS jobs, bool_or(at_least) AS at_least
FROM by_state
GROUP BY queue, state
HAVING sum(jobs) > 0
ORDER BY queue, state
LIMIT 1000;

COMMIT;
