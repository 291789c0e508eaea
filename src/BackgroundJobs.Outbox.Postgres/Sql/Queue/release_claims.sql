-- Gives back what the worker holds here and does not know of: jobs of a claim whose answer never arrived, and jobs whose end was forgotten by a
-- server that took over or was restored. Nobody runs them, and the worker's heartbeat would hold them for ever. They are as due as they were.
-- Reads the whole table: no index may name a worker, and this is seldom.
WITH released AS (
    UPDATE outbox.jobs AS job
    SET lease_token = NULL,
        worker_id = NULL,
        claimed_at = NULL
    WHERE worker_id = @worker
      AND NOT EXISTS (
          SELECT
          FROM unnest(@ids::uuid[], @lease_tokens::uuid[]) AS known (id, lease_token)
          WHERE known.id = job.id
            AND known.lease_token = job.lease_token
      )
    RETURNING queue, run_at, job_group
)
SELECT queue, min(run_at) AS run_at, count(*) AS jobs, array_agg(DISTINCT coalesce(job_group, '')) AS groups
FROM released
GROUP BY queue
