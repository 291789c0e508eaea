-- When a queue with limits is to be looked at again although nothing ends in it and nothing becomes due: a pause is over, or a period. And whether
-- groups stand in line: one that another claim has locked just now is passed over, and nobody tells of it.
SELECT least(
    (
        SELECT look_at
        FROM outbox.job_groups
        WHERE queue = @queue
          AND look_at < 'infinity'
        ORDER BY look_at
        LIMIT 1
    ),
    (
        SELECT CASE
            WHEN paused_until > now() THEN nullif(paused_until, 'infinity')
            WHEN rate <= (SELECT sum(jobs) FROM unnest(started) AS jobs) THEN started_at[1] + rate_period
        END
        FROM outbox.queues
        WHERE name = @queue
    )) AS look_at,
    EXISTS (SELECT FROM outbox.job_groups WHERE queue = @queue AND state = 'ready') AS in_line
