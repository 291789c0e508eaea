-- How the parents of a running job ended, and what they left, in the order of their ids. Only under the lease token it was claimed with.
SELECT
    parents.key::uuid AS id,
    ended.kind,
    ended.state,
    ended.result::text AS result,
    ended.met_id
FROM outbox.jobs AS job
CROSS JOIN LATERAL jsonb_object_keys(job.depends_on) AS parents (key)
LEFT JOIN LATERAL (
    SELECT old.kind, old.state, old.result, old.met_id
    FROM outbox.job_history AS old
    WHERE old.id = parents.key::uuid
    ORDER BY old.finished_at DESC
    LIMIT 1
) AS ended ON true
WHERE job.id = @id
  AND job.lease_token = @lease_token
ORDER BY parents.key
