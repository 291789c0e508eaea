-- The queues that an operator has paused.
SELECT name AS queue, paused_at, paused_by, pause_reason
FROM outbox.queues
WHERE paused_at IS NOT NULL
ORDER BY name
LIMIT 1000
