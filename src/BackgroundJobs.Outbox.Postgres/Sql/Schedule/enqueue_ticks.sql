-- Enqueues the jobs of due ticks and moves their schedules on, all of it or nothing; a row per queue for the wake-up.
-- Invariants: a schedule moves from what its reader saw (version, last change and last tick; one that was deleted and made anew has another change)
-- or not at all; a tick is in schedule_ticks once.
-- A schedule that somebody else moves at this moment is passed over. keep: it was run now, between its ticks, and those stay what they are.
WITH due AS MATERIALIZED (
    SELECT
        schedules.name,
        schedules.kind,
        schedules.headers,
        schedules.queue,
        schedules.priority,
        schedules.max_attempts,
        schedules.job_group,
        schedules.overlap OR NOT EXISTS (SELECT FROM outbox.jobs WHERE id = schedules.last_job_id) AS may_run,
        seen.moved_to,
        seen.next_at
    FROM unnest(@names::text[], @versions::integer[], @changed_at::timestamptz[], @seen_at::timestamptz[], @moved_to::timestamptz[], @next_at::timestamptz[])
        AS seen (name, version, changed_at, seen_at, moved_to, next_at)
    JOIN outbox.schedules AS schedules ON schedules.name = seen.name
    WHERE schedules.version = seen.version
      AND schedules.changed_at = seen.changed_at
      AND schedules.last_at IS NOT DISTINCT FROM seen.seen_at
    FOR NO KEY UPDATE OF schedules SKIP LOCKED
),
asked AS (
    SELECT schedule, tick_at, id, args
    FROM unnest(@tick_schedules::text[], @ticks::timestamptz[], @ids::uuid[], @args::text[]) AS t (schedule, tick_at, id, args)
),
new_ticks AS (
    INSERT INTO outbox.schedule_ticks (schedule, tick_at, job_id)
    SELECT asked.schedule, asked.tick_at, CASE WHEN due.may_run THEN asked.id END
    FROM asked
    JOIN due ON due.name = asked.schedule
    ON CONFLICT (schedule, tick_at) DO NOTHING
    RETURNING schedule, tick_at, job_id
),
new_jobs AS (
    INSERT INTO outbox.jobs (id, kind, args, headers, queue, priority, max_attempts, job_group)
    SELECT
        new_ticks.job_id,
        due.kind,
        asked.args::jsonb,
        coalesce(due.headers, '{}') || jsonb_build_object(
            'outbox-schedule', due.name,
            'outbox-tick', to_char(new_ticks.tick_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
        due.queue,
        due.priority,
        due.max_attempts,
        due.job_group
    FROM new_ticks
    JOIN asked ON asked.id = new_ticks.job_id
    JOIN due ON due.name = new_ticks.schedule
    RETURNING queue, run_at
),
moved AS (
    UPDATE outbox.schedules AS schedules
    SET last_at = due.moved_to,
        next_at = CASE WHEN @keep THEN schedules.next_at ELSE coalesce(due.next_at, 'infinity'::timestamptz) END,
        last_job_id = coalesce(
            (
                SELECT new_ticks.job_id
                FROM new_ticks
                WHERE new_ticks.schedule = due.name
                  AND new_ticks.job_id IS NOT NULL
                ORDER BY new_ticks.tick_at DESC
                LIMIT 1
            ),
            schedules.last_job_id),
        problem = NULL
    FROM due
    WHERE schedules.name = due.name
)
SELECT queue::text, min(run_at)::timestamptz AS run_at, count(*) AS jobs
FROM new_jobs
GROUP BY queue
