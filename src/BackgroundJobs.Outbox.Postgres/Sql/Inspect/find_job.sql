-- One job by its id, wherever it is; an unfinished one first, should an id have been used twice.
SELECT
    id,
    state,
    queue,
    kind,
    priority,
    run_at,
    created_at,
    claimed_at,
    finished_at,
    attempt,
    failures,
    crashes,
    max_attempts,
    worker_id,
    cancel_requested_at,
    args::text AS args,
    headers::text AS headers,
    traceparent AS trace_parent,
    saved_cursor::text AS saved_cursor,
    errors::text AS errors,
    job_group,
    workflow_id,
    result::text AS result,
    unique_key,
    met_id
FROM outbox.all_jobs
WHERE id = @id
ORDER BY finished_at DESC NULLS FIRST
LIMIT 1
