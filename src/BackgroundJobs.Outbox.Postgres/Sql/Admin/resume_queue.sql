-- Lets the queue's jobs be claimed again; no row when it was not paused. With the oldest job that waited, so that claims go back to it.
WITH resumed AS (
    UPDATE outbox.queues
    SET paused_at = NULL,
        paused_by = NULL,
        pause_reason = NULL
    WHERE name = @queue
      AND paused_at IS NOT NULL
    RETURNING name
)
SELECT
    resumed.name AS queue,
    coalesce(
        (
            SELECT min(first_of.run_at)
            FROM generate_series(1, 4) AS level
            CROSS JOIN LATERAL (
                SELECT run_at
                FROM outbox.jobs
                WHERE queue = resumed.name
                  AND priority = level
                  AND priority > 0
                ORDER BY run_at, id
                LIMIT 1
            ) AS first_of
        ),
        now()) AS run_at
FROM resumed
