-- Claims jobs of a queue with limits, in the order in which they are to start (migrations/0005). Nothing where the queue has none any more.
SELECT
    id,
    kind::text,
    args::jsonb,
    queue::text,
    priority::smallint,
    run_at::timestamptz,
    created_at::timestamptz,
    headers::text,
    traceparent,
    max_attempts::smallint,
    failures::smallint,
    crashes::smallint,
    attempt,
    claimed_at,
    saved_cursor::text,
    errors::text,
    steps::text,
    workflow_id,
    job_group
FROM outbox.claim_in_turn(@queue, @limit, @suspects, @kinds, @worker, @epoch, @lease_token)
