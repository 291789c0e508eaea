-- The schedules whose next tick has come, or was never worked out; but for those that this worker could not read a while ago.
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
WHERE paused_at IS NULL
  AND coalesce(next_at, '-infinity'::timestamptz) <= now()
  AND name <> ALL (@unreadable::text[])
ORDER BY coalesce(next_at, '-infinity'::timestamptz), name
LIMIT 100
