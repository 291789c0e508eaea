-- Why a job is not running, in one line: ended, claimed by whom, waiting for which jobs, not compared yet, paused, at which limit, scheduled, no worker that would take it, or how many are before it.
-- Which job: SET outbox_query.job_id = '<id>'; before it, or PGOPTIONS='-c outbox_query.job_id=<id>'; without, the newest one.
-- Bounded: by ids; of the jobs before it up to 1,000 are counted, for each priority, and up to 1,000 of those that it waits for.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL timezone = 'UTC';

WITH chosen AS MATERIALIZED (
    SELECT coalesce(
        nullif(current_setting('outbox_query.job_id', true), '')::uuid,
        (
            SELECT id
            FROM outbox.all_jobs
            ORDER BY id DESC
            LIMIT 1
        )) AS id
),
job AS MATERIALIZED (
    SELECT
        id,
        state,
        queue,
        kind,
        priority,
        run_at,
        claimed_at,
        finished_at,
        attempt,
        failures,
        crashes,
        max_attempts,
        worker_id,
        cancel_requested_at,
        errors,
        workflow_id,
        job_group,
        unique_key,
        met_id
    FROM outbox.all_jobs
    WHERE id = (SELECT id FROM chosen)
    LIMIT 1
),
alive AS MATERIALIZED (
    SELECT id, queues, kinds, stopping
    FROM outbox.workers
    WHERE dead_at IS NULL
      AND heartbeat_at BETWEEN clock_timestamp() - lease AND clock_timestamp()
),
-- One that stops ends what it holds, and takes nothing more.
takers AS MATERIALIZED (
    SELECT queues, kinds
    FROM alive
    WHERE NOT stopping
),
facts AS (
    SELECT
        job.*,
        date_trunc('second', job.run_at) AS due_at,
        job.errors -> -1 ->> 'type' AS error,
        job.errors -> -1 ->> 'message' AS message,
        holder.name AS holder,
        holder.id IS NOT NULL AND NOT EXISTS (SELECT FROM alive WHERE alive.id = holder.id) AS holder_is_dead,
        holder.heartbeat_at,
        queues.paused_at,
        queues.paused_until,
        queues.limited,
        queues.concurrency,
        coalesce(groups.concurrency, queues.group_concurrency) AS group_concurrency,
        queues.group_order,
        groups.state AS group_state,
        groups.paused_until AS group_paused_until,
        groups.look_at AS group_look_at,
        groups.holders AS group_holders,
        groups.head AS group_head,
        queues.paused_by,
        queues.pause_reason,
        paused_kinds.queue AS kind_paused_in,
        paused_kinds.paused_at AS kind_paused_at,
        paused_kinds.paused_by AS kind_paused_by,
        paused_kinds.pause_reason AS kind_pause_reason,
        (SELECT count(*) FROM takers) AS workers,
        (SELECT count(*) FROM takers WHERE takers.queues ? job.queue) AS with_queue,
        (SELECT count(*) FROM takers WHERE job.kind = ANY (takers.kinds)) AS with_kind,
        (SELECT count(*) FROM takers WHERE takers.queues ? job.queue AND job.kind = ANY (takers.kinds)) AS fit
    FROM job
    LEFT JOIN outbox.workers AS holder ON holder.id = job.worker_id
    LEFT JOIN outbox.queues AS queues ON queues.name = job.queue
    LEFT JOIN LATERAL (
        SELECT paused.queue, paused.paused_at, paused.paused_by, paused.pause_reason
        FROM outbox.paused_kinds AS paused
        WHERE paused.kind = job.kind
          AND paused.queue IN ('', job.queue)
        ORDER BY paused.queue
        LIMIT 1
    ) AS paused_kinds ON true
    LEFT JOIN outbox.job_groups AS groups ON queues.limited AND groups.queue = job.queue AND groups.job_group = coalesce(job.job_group, '')
)
SELECT
    id AS job_id,
    state,
    CASE
        WHEN state = 'completed' THEN format('It has run: completed at %s, as attempt %s.', date_trunc('second', finished_at), attempt)
        WHEN state = 'cancelled' AND workflow_id IS NOT NULL AND error = 'parent' THEN format('It will not run: cancelled at %s. %s', date_trunc('second', finished_at), message)
        WHEN met_id IS NOT NULL THEN format('It will not run: cancelled at %s. %s', date_trunc('second', finished_at), message)
        WHEN finished_at IS NOT NULL THEN
            format('It will not run: %s at %s, after %s attempts, %s failures and %s crashes%s. JobAdmin can retry it.',
                state, date_trunc('second', finished_at), attempt, failures, crashes, coalesce(' (' || error || ')', ''))
        WHEN state = 'running' AND holder_is_dead THEN
            format('Its worker %s was last heard at %s: the job is given back as soon as another worker notices.', holder, date_trunc('second', heartbeat_at))
        WHEN state = 'running' THEN
            format('It is claimed by %s since %s, attempt %s%s.', coalesce(holder, 'worker ' || worker_id), date_trunc('second', claimed_at), attempt,
                coalesce(', and was asked to stop at ' || date_trunc('second', cancel_requested_at), ''))
        WHEN cancel_requested_at IS NOT NULL THEN
            format('It was cancelled at %s, and ends as soon as a worker notices.', date_trunc('second', cancel_requested_at))
        WHEN state = 'blocked' AND parents.jobs > 0 THEN
            format('It waits for %s jobs: %s%s.', CASE WHEN parents.jobs >= 1000 THEN '1000 or more' ELSE parents.jobs::text END, parents.first,
                CASE WHEN parents.jobs > 3 THEN ' and others' END)
        WHEN state = 'blocked' AND unique_key IS NOT NULL THEN
            format('It waits to be compared with others of its unique key %s, and is as soon as a worker notices.', unique_key)
        WHEN state = 'blocked' THEN 'The jobs that it waited for have ended, and it is due as soon as a worker notices.'
        WHEN paused_at IS NOT NULL THEN
            format('Its queue %s is paused since %s by %s%s.', queue, date_trunc('second', paused_at), paused_by, coalesce(': ' || left(pause_reason, 200), ''))
        WHEN paused_until > now() THEN format('Its queue %s is paused until %s: another system has asked to be left alone.', queue, date_trunc('second', paused_until))
        WHEN kind_paused_at IS NOT NULL THEN
            format('Its kind %s is paused%s since %s by %s%s.', kind, ' in queue ' || nullif(kind_paused_in, ''), date_trunc('second', kind_paused_at), kind_paused_by,
                coalesce(': ' || left(kind_pause_reason, 200), ''))
        WHEN state = 'retrying' THEN
            format('It has failed %s times of %s (%s), and is tried again at %s.', failures, max_attempts, coalesce(error, 'unknown'), due_at)
        WHEN state = 'scheduled' THEN format('It is scheduled for %s.', due_at)
        WHEN workers = 0 THEN 'No worker is alive that would take it.'
        WHEN with_kind = 0 THEN format('No live worker knows its kind %s.', kind)
        WHEN with_queue = 0 THEN format('No live worker takes jobs of its queue %s.', queue)
        WHEN fit = 0 THEN format('No live worker that knows its kind %s takes jobs of its queue %s.', kind, queue)
        WHEN crashes >= 2 THEN
            format('%s workers have died under it: it waits for a process in which no other such job runs.', crashes)
        WHEN group_paused_until = 'infinity' THEN format('Its group %s is paused.', left(job_group, 80))
        WHEN group_paused_until > now() THEN format('Its group %s is paused until %s.', left(job_group, 80), date_trunc('second', group_paused_until))
        WHEN group_state = 'failed' AND group_head <> id THEN
            format('Its group %s waits for job %s, which is dead: JobAdmin can retry it, or pass it over.', left(job_group, 80), group_head)
        WHEN group_head <> id AND group_state IN ('full', 'later') THEN format('Its group %s waits for job %s, which was before it.', left(job_group, 80), group_head)
        WHEN group_state = 'full' THEN
            format('Its group %s is at its limit: %s of %s run.', left(job_group, 80), of_group.jobs, CASE WHEN group_order = 'any' THEN group_concurrency ELSE 1 END)
        WHEN group_state = 'later' THEN format('As many of its group %s have started as may: the next one at %s.', left(job_group, 80), date_trunc('second', group_look_at))
        WHEN of_queue.jobs >= concurrency THEN format('Its queue %s is at its limit: %s of %s run.', queue, of_queue.jobs, concurrency)
        WHEN limited AND (job_group IS NOT NULL OR group_state IS NOT NULL) THEN format('It waits for the turn of its group%s in queue %s.', coalesce(' ' || left(job_group, 80), ''), queue)
        WHEN ahead.jobs = 0 THEN format('It is the next one of queue %s, due since %s: a slot must become free, or a worker look.', queue, due_at)
        ELSE format('It is behind %s jobs of queue %s, due since %s.', CASE WHEN ahead.jobs >= 1000 THEN '1000 or more' ELSE ahead.jobs::text END, queue, due_at)
    END AS why
FROM facts
CROSS JOIN LATERAL (
    SELECT coalesce(sum(of_level.jobs), 0)::bigint AS jobs
    FROM generate_series(1, CASE WHEN facts.state = 'waiting' THEN facts.priority ELSE 0 END) AS level
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs
        FROM (
            SELECT
            FROM outbox.jobs AS other
            WHERE other.queue = facts.queue
              AND other.priority = level
              AND other.priority > 0
              AND other.run_at <= now()
              AND (other.run_at, other.id) < (
                  CASE WHEN level = facts.priority THEN facts.run_at ELSE now() END,
                  CASE WHEN level = facts.priority THEN facts.id ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff' END)
              AND other.lease_token IS NULL
            LIMIT 1000
        ) AS before_it
    ) AS of_level
) AS ahead
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, string_agg(format('%s (%s, %s)', parent.id, parent.kind, parent.state), ', ' ORDER BY parent.id) FILTER (WHERE nth <= 3) AS first
    FROM (
        SELECT parent_id, row_number() OVER (ORDER BY parent_id) AS nth
        FROM outbox.job_waits
        WHERE job_id = facts.id
        LIMIT 1000
    ) AS wait
    CROSS JOIN LATERAL (
        SELECT unfinished.id, unfinished.kind, unfinished.state
        FROM outbox.all_jobs AS unfinished
        WHERE unfinished.id = wait.parent_id
          AND unfinished.finished_at IS NULL
        LIMIT 1
    ) AS parent
) AS parents
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs
    FROM outbox.jobs AS running
    WHERE running.id = ANY (facts.group_holders)
      AND running.lease_token IS NOT NULL
) AS of_group
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs
    FROM outbox.queue_holders AS part
    JOIN outbox.jobs AS running ON running.id = ANY (part.ids)
    WHERE part.queue = facts.queue
      AND running.lease_token IS NOT NULL
) AS of_queue
LIMIT 1;

COMMIT;
