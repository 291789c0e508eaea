-- What one group of a queue has of its own. One that comes into line by it has no credit from the time before.
INSERT INTO outbox.job_groups AS known (queue, job_group, turn, weight, concurrency)
VALUES (@queue, @group, outbox.present_turn(@queue), @weight, @concurrency)
ON CONFLICT (queue, job_group) DO UPDATE
SET weight = excluded.weight,
    concurrency = excluded.concurrency,
    turn = CASE WHEN known.state = 'full' THEN greatest(known.turn, excluded.turn) ELSE known.turn END,
    state = CASE WHEN known.state = 'full' THEN 'ready' ELSE known.state END,
    look_at = CASE WHEN known.state = 'full' THEN NULL ELSE known.look_at END
