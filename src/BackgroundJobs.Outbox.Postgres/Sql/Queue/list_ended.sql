-- Which of these jobs have ended, how, and what they left; and of which of these workflows no job is unfinished. A few keys each.
SELECT
    false AS is_workflow,
    asked.id,
    ended.kind,
    ended.state,
    ended.result::text AS result,
    ended.met_id
FROM unnest(@ids::uuid[]) AS asked (id)
LEFT JOIN LATERAL (
    SELECT past.kind, past.state, past.result, past.met_id
    FROM outbox.job_history AS past
    WHERE past.id = asked.id
    ORDER BY past.finished_at DESC
    LIMIT 1
) AS ended ON true
WHERE NOT EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = asked.id)
UNION ALL
SELECT true, asked.id, NULL, NULL, NULL, NULL
FROM unnest(@workflows::uuid[]) AS asked (id)
WHERE NOT EXISTS (SELECT FROM outbox.jobs AS job WHERE job.workflow_id = asked.id)
