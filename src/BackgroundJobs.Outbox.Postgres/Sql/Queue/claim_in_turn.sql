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
FROM (
    SELECT CASE
        WHEN EXISTS (SELECT FROM outbox.paused_kinds) THEN ARRAY(
            SELECT known.kind
            FROM unnest(@kinds::text[]) AS known (kind)
            WHERE NOT EXISTS (SELECT FROM outbox.paused_kinds AS paused WHERE paused.kind = known.kind AND paused.queue IN ('', @queue)))
        ELSE @kinds::text[]
    END AS kinds
) AS claimable
CROSS JOIN LATERAL outbox.claim_in_turn(
    @queue, CASE WHEN claimable.kinds = '{}' THEN 0 ELSE @limit END, @suspects, claimable.kinds, @worker, @epoch, @lease_token)
