-- No job of this queue is claimed from the next claim on; what runs, runs on. Pausing a paused queue keeps its time and replaces the reason.
INSERT INTO outbox.queues (name, paused_at, paused_by, pause_reason)
VALUES (@queue, clock_timestamp(), coalesce(@by::text, session_user), @reason::text)
ON CONFLICT (name) DO UPDATE
SET paused_at = coalesce(queues.paused_at, excluded.paused_at),
    paused_by = excluded.paused_by,
    pause_reason = excluded.pause_reason
