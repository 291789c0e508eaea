-- What one group of a queue has of its own. One that comes into line by it has no credit from the time before, and what it has had ahead of the others
-- counts by its new weight: one start at a weight of a tenth is not to keep it waiting for ten of each other at a weight of ten.
INSERT INTO outbox.job_groups AS known (queue, job_group, turn, weight, concurrency)
VALUES (@queue, @group, outbox.present_turn(@queue), @weight, @concurrency)
ON CONFLICT (queue, job_group) DO UPDATE
SET weight = excluded.weight,
    concurrency = excluded.concurrency,
    turn = coalesce(
        (
            SELECT limits.turn + (known.turn - limits.turn) * known.weight / excluded.weight
            FROM outbox.queues AS limits
            WHERE limits.name = known.queue
              AND limits.turn < known.turn
        ),
        CASE WHEN known.state = 'full' THEN greatest(known.turn, excluded.turn) ELSE known.turn END),
    state = CASE WHEN known.state = 'full' THEN 'ready' ELSE known.state END,
    look_at = CASE WHEN known.state = 'full' THEN NULL ELSE known.look_at END
