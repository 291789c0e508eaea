-- Why a worker could not work out a schedule's ticks, for people; another worker may be able to, and then takes it away.
UPDATE outbox.schedules
SET problem = @problem
WHERE name = @name
  AND version = @version
  AND problem IS DISTINCT FROM @problem
