-- Ticks are remembered as long as finished jobs are.
DELETE FROM outbox.schedule_ticks
WHERE made_at <= now() - @retention::interval
