-- Why: each claim from a queue with a large concurrency wrote the ids of all that run anew, some thousand of them.

-- The jobs that were started in queues with a concurrency, in parts, some of which have ended since: how many run is asked of their leases. All
-- of it is read and written under the lock of the queue's row. It takes the place of outbox.queues.holders, which is empty from now on.
CREATE TABLE outbox.queue_holders (
    queue text COLLATE "C" NOT NULL,
    part  integer NOT NULL,
    jobs  integer NOT NULL,
    ids   uuid[] NOT NULL,
    CONSTRAINT queue_holders_pkey PRIMARY KEY (queue, part),
    CONSTRAINT queue_holders_jobs_are_counted CHECK (jobs = cardinality(ids))
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- They do not compress.
ALTER TABLE outbox.queue_holders ALTER COLUMN ids SET STORAGE EXTERNAL;

INSERT INTO outbox.queue_holders (queue, part, jobs, ids)
SELECT name, 1, cardinality(holders), holders
FROM outbox.queues
WHERE cardinality(holders) > 0;
UPDATE outbox.queues
SET holders = '{}'
WHERE cardinality(holders) > 0;

-- How many jobs of a queue may start, of max_jobs, by the limits of the queue itself. Where it has some its row is locked until the transaction
-- ends, before what runs is counted, by a statement of its own: no two claims count the same room. Those that have ended are forgotten when there
-- might be no room because of them.
CREATE OR REPLACE FUNCTION outbox.room_in_queue(queue text, max_jobs integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    limits outbox.queues;
    room   integer := max_jobs;
    held   integer;
BEGIN
    SELECT *
    INTO limits
    FROM outbox.queues
    WHERE name = room_in_queue.queue;
    IF limits.concurrency IS NOT NULL OR limits.rate IS NOT NULL THEN
        SELECT *
        INTO limits
        FROM outbox.queues
        WHERE name = room_in_queue.queue
        FOR NO KEY UPDATE;
    END IF;
    IF limits.limited IS NOT TRUE OR limits.paused_at IS NOT NULL OR limits.paused_until > now() THEN
        RETURN 0;
    END IF;
    IF limits.concurrency IS NOT NULL THEN
        held := (SELECT coalesce(sum(part.jobs), 0) FROM outbox.queue_holders AS part WHERE part.queue = room_in_queue.queue);
        IF held + room > limits.concurrency THEN
            UPDATE outbox.queue_holders AS part
            SET ids = running.ids,
                jobs = cardinality(running.ids)
            FROM (
                SELECT
                    known.part,
                    ARRAY(
                        SELECT job.id
                        FROM outbox.jobs AS job
                        WHERE job.id = ANY (known.ids)
                          AND job.lease_token IS NOT NULL) AS ids
                FROM outbox.queue_holders AS known
                WHERE known.queue = room_in_queue.queue
                  AND known.jobs > 0
            ) AS running
            WHERE part.queue = room_in_queue.queue
              AND part.part = running.part
              AND part.jobs > cardinality(running.ids);
            held := (SELECT coalesce(sum(part.jobs), 0) FROM outbox.queue_holders AS part WHERE part.queue = room_in_queue.queue);
        END IF;
        room := least(room, limits.concurrency - held);
    END IF;
    IF limits.rate IS NOT NULL THEN
        room := least(room, limits.rate - (
            SELECT coalesce(sum(each.jobs), 0)
            FROM unnest(limits.started_at, limits.started) AS each (at, jobs)
            WHERE each.at > clock_timestamp() - limits.rate_period));
    END IF;
    RETURN greatest(room, 0);
END
$$;

-- Notes which jobs of a queue with limits of its own were started: in a part of less than a hundred, or in a new one. So a part is written again only
-- while it is small, and there are never many.
CREATE OR REPLACE FUNCTION outbox.note_started(queue text, ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    limits outbox.queues;
BEGIN
    SELECT *
    INTO limits
    FROM outbox.queues
    WHERE name = note_started.queue;
    IF cardinality(note_started.ids) = 0 THEN
        RETURN;
    END IF;
    IF limits.concurrency IS NOT NULL THEN
        INSERT INTO outbox.queue_holders AS known (queue, part, jobs, ids)
        SELECT
            note_started.queue,
            coalesce((array_agg(part.part ORDER BY part.jobs) FILTER (WHERE part.jobs < 100))[1], max(part.part) + 1, 1),
            cardinality(note_started.ids),
            note_started.ids
        FROM outbox.queue_holders AS part
        WHERE part.queue = note_started.queue
        ON CONFLICT (queue, part) DO UPDATE
        SET jobs = known.jobs + excluded.jobs,
            ids = known.ids || excluded.ids;
    END IF;
    IF limits.rate IS NOT NULL THEN
        UPDATE outbox.queues AS known
        SET (started_at, started) = (
            SELECT noted.started_at, noted.started
            FROM outbox.note_starts(known.started_at, known.started, known.rate_period, cardinality(note_started.ids)) AS noted)
        WHERE known.name = note_started.queue;
    END IF;
END
$$;
