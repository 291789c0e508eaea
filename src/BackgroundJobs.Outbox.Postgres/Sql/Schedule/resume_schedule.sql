-- Ticks from now on enqueue jobs again; those of the pause do not. A row when it was paused.
UPDATE outbox.schedules
SET paused_at = NULL
WHERE name = @name
  AND paused_at IS NOT NULL
RETURNING name
