-- A schedule and what is remembered of its ticks; its jobs stay.
WITH forgotten AS (
    DELETE FROM outbox.schedule_ticks
    WHERE schedule = @name
)
DELETE FROM outbox.schedules
WHERE name = @name
RETURNING name
