-- When a queue with limits is to be looked at again although nothing ends in it and nothing becomes due: a pause is over, or a period.
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
    )) AS look_at
