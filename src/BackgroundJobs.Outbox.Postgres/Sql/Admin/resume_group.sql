-- A group that was paused may start jobs again, and one that waits for a dead job passes it over; no row where it was neither.
-- It has no credit for the time in which it started none.
UPDATE outbox.job_groups
SET head = CASE WHEN state = 'failed' THEN NULL ELSE head END,
    state = 'ready',
    look_at = NULL,
    turn = greatest(turn, outbox.present_turn(queue)),
    paused_until = NULL,
    pause_reason = NULL
WHERE queue = @queue
  AND job_group = @group
  AND (paused_until IS NOT NULL OR state = 'failed')
RETURNING queue, now() AS run_at
