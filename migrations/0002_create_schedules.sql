-- Why: jobs that come again, by a cron expression or an interval.

-- Written by the application, by JobAdmin, or by hand: a row without next_at is looked at by the next worker. Ticks are the moments at which
-- the cron expression or the interval says that a job is to be enqueued; those after greatest(last_at, changed_at) are still to come.
CREATE TABLE outbox.schedules (
    name         outbox.job_name PRIMARY KEY,
    kind         outbox.job_name NOT NULL,
    args         outbox.job_object NOT NULL DEFAULT '{}',
    headers      outbox.job_object,
    queue        outbox.job_name NOT NULL DEFAULT 'default',
    priority     outbox.job_priority NOT NULL DEFAULT 2,
    max_attempts outbox.job_max_attempts NOT NULL DEFAULT 20,
    cron         text COLLATE "C",
    every        interval,
    time_zone    text COLLATE "C" NOT NULL DEFAULT 'UTC',
    missed       text COLLATE "C" NOT NULL DEFAULT 'once',
    missed_limit integer NOT NULL DEFAULT 100,
    overlap      boolean NOT NULL DEFAULT true,
    paused_at    timestamptz,
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    version      integer NOT NULL DEFAULT 1,
    declared     text COLLATE "C",
    last_at      timestamptz,
    last_job_id  uuid,
    next_at      timestamptz,
    problem      text,
    CONSTRAINT schedules_has_cron_or_every CHECK ((cron IS NULL) <> (every IS NULL)),
    CONSTRAINT schedules_every_is_a_second_to_ten_years CHECK (
        every >= interval '1 second' AND every <= interval '3650 days' AND extract(month FROM every) = 0 AND extract(year FROM every) = 0),
    CONSTRAINT schedules_cron_is_at_most_200_characters CHECK (length(cron) <= 200),
    CONSTRAINT schedules_time_zone_is_at_most_100_characters CHECK (length(time_zone) <= 100),
    CONSTRAINT schedules_missed_is_skip_once_or_all CHECK (missed IN ('skip', 'once', 'all')),
    CONSTRAINT schedules_missed_limit_is_1_to_1000 CHECK (missed_limit BETWEEN 1 AND 1000),
    -- Heartbeats read them: one that no process can read would end them all. Not the first moment of .NET itself, which comes back as -infinity.
    CONSTRAINT schedules_moments_are_of_the_years_1_to_9999 CHECK (
        changed_at > '0001-01-01 00:00:00+00' AND changed_at < '10000-01-01 00:00:00+00'
        AND last_at > '0001-01-01 00:00:00+00' AND last_at < '10000-01-01 00:00:00+00'
        AND (next_at = 'infinity' OR (next_at > '0001-01-01 00:00:00+00' AND next_at < '10000-01-01 00:00:00+00')))
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.05);

-- For beat_worker.sql (the next tick) and due_schedules.sql.
CREATE INDEX schedules_due ON outbox.schedules (coalesce(next_at, '-infinity'::timestamptz), name) WHERE paused_at IS NULL;

-- What became of each tick: its job, or none where the last one had not ended. The key is what makes a tick enqueue once, whoever tries.
CREATE TABLE outbox.schedule_ticks (
    schedule text COLLATE "C" NOT NULL,
    tick_at  timestamptz NOT NULL,
    job_id   uuid,
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schedule_ticks_pkey PRIMARY KEY (schedule, tick_at)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);

-- Whoever changes a schedule, and with whatever: a tick that was worked out from the old version enqueues nothing, and a new rhythm, or the end
-- of a pause, begins now.
CREATE FUNCTION outbox.note_schedule_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.version := OLD.version + 1;
    IF (OLD.cron, OLD.every, OLD.time_zone, OLD.paused_at IS NULL) IS DISTINCT FROM (NEW.cron, NEW.every, NEW.time_zone, NEW.paused_at IS NULL) THEN
        NEW.changed_at := clock_timestamp();
        NEW.next_at := NULL;
        NEW.problem := NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER schedules_note_change
BEFORE UPDATE OF kind, args, headers, queue, priority, max_attempts, cron, every, time_zone, missed, missed_limit, overlap, paused_at
ON outbox.schedules
FOR EACH ROW EXECUTE FUNCTION outbox.note_schedule_change();
