-- Lets the jobs of this kind be claimed again; no row when it was not paused there.
DELETE FROM outbox.paused_kinds
WHERE kind = @kind
  AND queue = @queue
