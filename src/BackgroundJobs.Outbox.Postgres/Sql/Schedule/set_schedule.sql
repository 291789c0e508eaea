-- Makes a schedule, or makes it over. What code declares changes nothing as long as it declares the same as the last time: what an operator has
-- changed since then stays. A row when something changed.
INSERT INTO outbox.schedules AS schedules (
    name, kind, args, headers, queue, priority, max_attempts, job_group, cron, every, time_zone, missed, missed_limit, overlap, declared)
VALUES (
    @name,
    @kind,
    @args::jsonb,
    @headers::jsonb,
    @queue,
    @priority::smallint,
    @max_attempts::smallint,
    @group::text,
    @cron::text,
    @every::interval,
    @time_zone,
    @missed,
    @missed_limit,
    @overlap,
    @declared::text)
ON CONFLICT (name) DO UPDATE
SET kind = excluded.kind,
    args = excluded.args,
    headers = excluded.headers,
    queue = excluded.queue,
    priority = excluded.priority,
    max_attempts = excluded.max_attempts,
    job_group = excluded.job_group,
    cron = excluded.cron,
    every = excluded.every,
    time_zone = excluded.time_zone,
    missed = excluded.missed,
    missed_limit = excluded.missed_limit,
    overlap = excluded.overlap,
    declared = coalesce(excluded.declared, schedules.declared)
WHERE excluded.declared IS NULL
   OR excluded.declared IS DISTINCT FROM schedules.declared
RETURNING name
