-- When a queue with limits is to be looked at again although nothing ends in it and nothing becomes due: a pause is over, or a period. And whether
-- groups stand in line (one that another claim has locked just now is passed over, and nobody tells of it), or, without groups, jobs may wait for room;
-- whether these are more than @looked_at, where it is asked; and whether groups take turns at all.
-- Invariants: jobs wait if the claim has found no room, so what it has noted is counted as it left it, and not asked again: one may have ended since. And a
-- moment that is still to come: one that has passed (of a queue that is paused, say) would be looked for again and again.
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
    EXISTS (SELECT FROM outbox.job_groups WHERE queue = @queue AND state = 'ready') OR EXISTS (
        SELECT
        FROM outbox.queues AS limits
        WHERE limits.name = @queue
          AND limits.paused_at IS NULL
          AND takes_turns.takes_turns IS FALSE
          AND limits.concurrency <= (SELECT sum(part.jobs - part.ended) FROM outbox.queue_holders AS part WHERE part.queue = limits.name)) AS in_line,
    @looked_at > 0 AND EXISTS (SELECT FROM outbox.job_groups WHERE queue = @queue AND state = 'ready' OFFSET @looked_at) AS is_line_longer,
    coalesce(takes_turns.takes_turns, false) AS takes_turns,
    now() AS now
FROM outbox.takes_turns(@queue)
