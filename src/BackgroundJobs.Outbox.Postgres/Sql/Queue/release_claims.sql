-- Gives back what claims brought whose answer never arrived: nobody runs it, and the worker's heartbeat would hold it for ever. It is as due as
-- it was. Reads the whole table: no index may name a claim, and a claim seldom goes unanswered.
WITH released AS (
    UPDATE outbox.jobs
    SET lease_token = NULL,
        worker_id = NULL,
        claimed_at = NULL
    WHERE worker_id = @worker
      AND lease_token = ANY (@lease_tokens)
    RETURNING queue, run_at
)
SELECT queue, min(run_at) AS run_at, count(*) AS jobs
FROM released
GROUP BY queue
