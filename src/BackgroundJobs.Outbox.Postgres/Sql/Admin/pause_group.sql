-- No job of this group starts until then; what runs, runs on.
INSERT INTO outbox.job_groups (queue, job_group, state, look_at, paused_until, pause_reason)
VALUES (@queue, @group, 'later', coalesce(@until::timestamptz, 'infinity'), coalesce(@until::timestamptz, 'infinity'), @reason)
ON CONFLICT (queue, job_group) DO UPDATE
SET state = excluded.state,
    look_at = excluded.look_at,
    paused_until = excluded.paused_until,
    pause_reason = excluded.pause_reason
