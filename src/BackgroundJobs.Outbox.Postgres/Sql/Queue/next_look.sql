-- When a queue with limits is to be looked at again although nothing ends in it and nothing becomes due: a pause is over, or a period. And whether
-- groups stand in line (one that another claim has locked just now is passed over, and nobody tells of it), or, without groups, jobs may wait for room. And
-- whether groups take turns at all.
-- Invariant: a moment that is still to come. One that has passed (of a queue that is paused, say) would be looked for again and again.
SELECT least(
    (
        SELECT look_at
        FROM outbox.job_groups
        WHERE queue = @queue
          AND look_at > now()
          AND look_at < 'infinity'
        ORDER BY look_at
        LIMIT 1
    ),
    (
        SELECT CASE WHEN paused_until > now() THEN nullif(paused_until, 'infinity') END
        FROM outbox.queues
        WHERE name = @queue
    ),
    (
        SELECT min(each.at) + limits.rate_period
        FROM outbox.queues AS limits
        CROSS JOIN LATERAL unnest(limits.started_at, limits.started) AS each (at, jobs)
        WHERE limits.name = @queue
          AND each.at > now() - limits.rate_period
        GROUP BY limits.rate, limits.rate_period
        HAVING sum(each.jobs) >= limits.rate
    )) AS look_at,
    EXISTS (SELECT FROM outbox.job_groups WHERE queue = @queue AND state = 'ready') OR (
        SELECT outbox.room_in_queue(@queue, 1) = 0
        FROM outbox.queues
        WHERE name = @queue
          AND paused_at IS NULL
          AND coalesce(paused_until <= now(), true)
          AND takes_turns.takes_turns IS FALSE) IS TRUE AS in_line,
    coalesce(takes_turns.takes_turns, false) AS takes_turns
FROM outbox.takes_turns(@queue)
