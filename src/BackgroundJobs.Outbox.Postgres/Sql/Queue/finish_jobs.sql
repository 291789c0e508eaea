-- Moves jobs that ended (completed, cancelled, dead) to the history, and returns the ids of those that were not ours any more.
-- Invariant: fenced. A row is only touched under the lease token it was claimed with; there is no other way out of outbox.jobs for a claim.
-- And the delete finds its rows by their keys alone; IS TRUE keeps the comparison of the pairs from becoming a join, whose order statistics
-- could turn round into reading the whole table.
-- @history: 0 keep, 1 keep without args, 2 keep nothing; but its children must see how it ended, others of its key that it ran, and a result is
-- there to be read. @limited: some were claimed from a queue with limits; what was noted of their claim hears of their ends (migrations/0018). Where a
-- claim counts that at this moment it is left as it is: this must not wait, and the claim asks the leases.
WITH ended AS (
    SELECT *
    FROM unnest(@ids::uuid[], @lease_tokens::uuid[], @states::text[], @history::smallint[], @errors::text[], @cursors::text[], @results::text[])
        AS t (id, lease_token, state, history, error, saved_cursor, result)
),
removed AS (
    DELETE FROM outbox.jobs
    WHERE id = ANY (@ids::uuid[])
      AND ((id, lease_token) IN (SELECT ended.id, ended.lease_token FROM ended)) IS TRUE
    RETURNING
        id,
        lease_token,
        run_at,
        created_at,
        claimed_at,
        worker_id,
        attempt,
        priority,
        max_attempts,
        failures,
        crashes,
        queue,
        kind,
        args,
        headers,
        traceparent,
        saved_cursor,
        steps,
        workflow_id,
        depends_on,
        job_group,
        unique_key,
        unique_rule,
        errors
),
remembered AS (
    INSERT INTO outbox.job_history (
        id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
        state, queue, kind, args, headers, traceparent, saved_cursor, steps, workflow_id, depends_on, job_group, unique_key, unique_rule, result, errors)
    SELECT
        removed.id,
        clock_timestamp(),
        removed.run_at,
        removed.created_at,
        removed.claimed_at,
        removed.worker_id,
        removed.attempt,
        removed.priority,
        removed.max_attempts,
        least(removed.failures, 32766) + CASE WHEN ended.state = 'dead' AND ended.error IS NOT NULL THEN 1 ELSE 0 END,
        removed.crashes,
        ended.state,
        removed.queue,
        removed.kind,
        CASE WHEN ended.history = 0 THEN removed.args END,
        removed.headers,
        removed.traceparent,
        CASE WHEN ended.state = 'completed' THEN NULL ELSE coalesce(ended.saved_cursor::jsonb, removed.saved_cursor) END,
        CASE WHEN ended.state = 'completed' THEN NULL ELSE removed.steps END,
        removed.workflow_id,
        removed.depends_on,
        removed.job_group,
        removed.unique_key,
        removed.unique_rule,
        ended.result::jsonb,
        CASE
            WHEN ended.error IS NULL THEN removed.errors
            ELSE CASE WHEN jsonb_array_length(removed.errors) >= 5 THEN removed.errors - 0 ELSE coalesce(removed.errors, '[]') END
                 || (ended.error::jsonb || jsonb_build_object('at', clock_timestamp()))
        END
    FROM removed
    JOIN ended ON ended.id = removed.id AND ended.lease_token = removed.lease_token
    WHERE ended.history < 2
       OR removed.workflow_id IS NOT NULL
       OR removed.unique_key IS NOT NULL
       OR ended.result IS NOT NULL
),
noted AS MATERIALIZED (
    SELECT part.queue, part.part, of_claim.jobs
    FROM (
        SELECT lease_token, count(*)::integer AS jobs
        FROM removed
        WHERE @limited::boolean
        GROUP BY lease_token
    ) AS of_claim
    JOIN outbox.queue_holders AS part ON part.lease_token = of_claim.lease_token
    FOR UPDATE OF part SKIP LOCKED
),
counted AS (
    UPDATE outbox.queue_holders AS part
    SET ended = part.ended + noted.jobs
    FROM noted
    WHERE part.queue = noted.queue
      AND part.part = noted.part
)
SELECT id
FROM ended
EXCEPT
SELECT id
FROM removed
