-- The oldest job of each queue, or of one where @queue is not '': to where claims go back when jobs may run that they have passed over. To be asked
-- when that is committed: whose job comes later tells of it himself.
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
)
SELECT queue_names.queue, min(first_of.run_at) AS run_at
FROM queue_names
CROSS JOIN generate_series(1, 4) AS level
CROSS JOIN LATERAL (
    SELECT run_at
    FROM outbox.jobs
    WHERE queue = queue_names.queue
      AND priority = level
      AND priority > 0
    ORDER BY run_at, id
    LIMIT 1
) AS first_of
WHERE @queue IN ('', queue_names.queue)
GROUP BY queue_names.queue
