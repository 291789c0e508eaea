-- What one group of a queue has of its own.
INSERT INTO outbox.job_groups AS known (queue, job_group, weight, concurrency)
VALUES (@queue, @group, @weight, @concurrency)
ON CONFLICT (queue, job_group) DO UPDATE
SET weight = excluded.weight,
    concurrency = excluded.concurrency,
    state = CASE WHEN known.state = 'full' THEN 'ready' ELSE known.state END,
    look_at = CASE WHEN known.state = 'full' THEN NULL ELSE known.look_at END
