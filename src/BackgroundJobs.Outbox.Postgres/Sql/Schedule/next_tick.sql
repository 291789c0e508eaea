-- How long until a schedule is due, in milliseconds; no row when there is none.
SELECT extract(epoch FROM coalesce(next_at, now()) - clock_timestamp())::double precision * 1000 AS milliseconds
FROM outbox.schedules
WHERE paused_at IS NULL
  AND coalesce(next_at, '-infinity'::timestamptz) < 'infinity'::timestamptz
  AND name <> ALL (@unreadable::text[])
ORDER BY coalesce(next_at, '-infinity'::timestamptz), name
LIMIT 1
