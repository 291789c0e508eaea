-- How many jobs ended in each of the last 15 minutes. Kinds whose history is not kept are missing.
-- Bounded: counts up to 100,000 a minute; at_least says that there were more.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

SELECT
    minute,
    count(*) FILTER (WHERE state = 'completed') AS completed,
    count(*) FILTER (WHERE state = 'dead') AS dead,
    count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
    count(state) = 100000 AS at_least
FROM generate_series(date_trunc('minute', now()) - interval '14 minutes', date_trunc('minute', now()), interval '1 minute') AS minute
LEFT JOIN LATERAL (
    SELECT state
    FROM outbox.job_history
    WHERE finished_at >= minute
      AND finished_at < minute + interval '1 minute'
    LIMIT 100000
) AS ended ON true
GROUP BY minute
ORDER BY minute DESC
LIMIT 15;

COMMIT;
