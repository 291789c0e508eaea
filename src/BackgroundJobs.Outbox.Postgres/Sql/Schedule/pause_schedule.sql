-- No tick of this schedule enqueues a job from now on. A row when it was not paused.
UPDATE outbox.schedules
SET paused_at = clock_timestamp()
WHERE name = @name
  AND paused_at IS NULL
RETURNING name
