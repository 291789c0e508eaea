-- No job of this kind is claimed from the next claim on, in one queue or (@queue is '') in all; what runs, runs on. Pausing a paused kind keeps
-- its time and replaces the reason.
INSERT INTO outbox.paused_kinds (kind, queue, paused_by, pause_reason)
VALUES (@kind, @queue, coalesce(@by::text, session_user), @reason::text)
ON CONFLICT (kind, queue) DO UPDATE
SET paused_by = excluded.paused_by,
    pause_reason = excluded.pause_reason
