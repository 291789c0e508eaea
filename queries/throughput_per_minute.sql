-- How many jobs ended in each of the last 15 minutes. Kinds whose history is not kept are missing.
-- Bounded: reads the newest 1,000 pages (8 MB, some 40,000 jobs) of a day's history, which is written in the order of time; at_least says that
-- more of the minute lies before them.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

WITH bounds AS MATERIALIZED (
    SELECT
        date_trunc('minute', now()) - interval '14 minutes' AS since,
        date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS today
),
-- Where the newest pages of a day begin; of the safety net's, where the day has no partition.
pages AS MATERIALIZED (
    SELECT
        days.is_today,
        greatest(0, pg_relation_size(coalesce(
            to_regclass('outbox.job_history_' || to_char(days.day AT TIME ZONE 'UTC', 'YYYYMMDD')),
            'outbox.job_history_default'::regclass)) / current_setting('block_size')::bigint - 1000) AS first
    FROM bounds
    CROSS JOIN LATERAL (VALUES (true, today), (false, today - interval '1 day')) AS days (is_today, day)
),
ended AS MATERIALIZED (
    SELECT date_trunc('minute', finished_at) AS minute, state, count(*) AS jobs, min(finished_at) AS first_at
    FROM outbox.job_history
    WHERE finished_at >= (SELECT greatest(since, today) FROM bounds)
      AND ctid >= (SELECT format('(%s,0)', first)::tid FROM pages WHERE is_today)
    GROUP BY date_trunc('minute', finished_at), state
    UNION ALL
    SELECT date_trunc('minute', finished_at), state, count(*), min(finished_at)
    FROM outbox.job_history
    WHERE finished_at >= (SELECT since FROM bounds)
      AND finished_at < (SELECT today FROM bounds)
      AND ctid >= (SELECT format('(%s,0)', first)::tid FROM pages WHERE NOT is_today)
    GROUP BY date_trunc('minute', finished_at), state
),
-- Before this moment something may be missing.
covered AS MATERIALIZED (
    SELECT CASE WHEN EXISTS (SELECT FROM pages WHERE first > 0) THEN (SELECT min(first_at) FROM ended) END AS since
)
SELECT
    minutes.minute,
    coalesce(sum(ended.jobs) FILTER (WHERE ended.state = 'completed'), 0)::bigint AS completed,
    coalesce(sum(ended.jobs) FILTER (WHERE ended.state = 'dead'), 0)::bigint AS dead,
    coalesce(sum(ended.jobs) FILTER (WHERE ended.state = 'cancelled'), 0)::bigint AS cancelled,
    coalesce(minutes.minute <= covered.since, false) AS at_least
FROM bounds
CROSS JOIN covered
CROSS JOIN generate_series(bounds.since, date_trunc('minute', now()), interval '1 minute') AS minutes (minute)
LEFT JOIN ended ON ended.minute = minutes.minute
GROUP BY minutes.minute, covered.since
ORDER BY minutes.minute DESC
LIMIT 15;

COMMIT;
