-- How the parents of a running job ended, and what ran alongside them, and what they left, in the order of their ids. Only under the lease token it
-- was claimed with.
WITH RECURSIVE parents AS (
    SELECT each_parent.key::uuid AS id, each_parent.value AS run_on
    FROM outbox.jobs AS job
    CROSS JOIN LATERAL jsonb_each_text(job.depends_on) AS each_parent
    WHERE job.id = @id
      AND job.lease_token = @lease_token
      AND each_parent.value <> 'alongside'
    UNION
    SELECT alongside.job_id, parents.run_on
    FROM parents
    JOIN outbox.alongside_jobs AS alongside ON alongside.alongside_id = parents.id
    WHERE parents.run_on <> 'failure'
)
SELECT
    parents.id,
    ended.kind,
    ended.state,
    ended.result::text AS result,
    ended.met_id
FROM (
    SELECT DISTINCT id
    FROM parents
) AS parents
LEFT JOIN LATERAL (
    SELECT old.kind, old.state, old.result, old.met_id
    FROM outbox.job_history AS old
    WHERE old.id = parents.id
    ORDER BY old.finished_at DESC
    LIMIT 1
) AS ended ON true
ORDER BY parents.id
