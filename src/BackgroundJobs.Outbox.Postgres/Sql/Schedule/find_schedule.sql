-- One schedule, to run it now.
SELECT
    name,
    version,
    cron,
    every,
    time_zone,
    missed,
    missed_limit,
    overlap,
    changed_at,
    last_at,
    kind,
    args::text AS args,
    clock_timestamp() AS now
FROM outbox.schedules
WHERE name = @name
