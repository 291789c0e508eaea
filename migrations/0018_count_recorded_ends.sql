-- Why: of each job that was started in a queue with a large concurrency it was asked at some time whether it still runs, which took a fifth of its time.

-- lease_token: of the claim that started all of a part, or null. ended: how many of those were recorded as ended, by the transactions that took them out
-- of outbox.jobs. What leaves otherwise (rescued, given back, completed by a handler) is not counted there, and found by its lease when there might be
-- no room because of it: so no more can be counted as ended than have, and nothing that is lost is lost for good.
ALTER TABLE outbox.queue_holders
    ADD COLUMN lease_token uuid,
    ADD COLUMN ended integer NOT NULL DEFAULT 0;

-- As before, less what has ended. A part whose end is being recorded is waited for, and never the other way round (finish_jobs.sql).
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
        held := (SELECT coalesce(sum(part.jobs - part.ended), 0) FROM outbox.queue_holders AS part WHERE part.queue = room_in_queue.queue);
        IF held + room > limits.concurrency THEN
            UPDATE outbox.queue_holders AS part
            SET ids = running.ids,
                jobs = cardinality(running.ids),
                ended = 0
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
                  AND known.jobs > known.ended
            ) AS running
            WHERE part.queue = room_in_queue.queue
              AND part.part = running.part
              AND part.jobs - part.ended > cardinality(running.ids);
            held := (SELECT coalesce(sum(part.jobs - part.ended), 0) FROM outbox.queue_holders AS part WHERE part.queue = room_in_queue.queue);
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

-- Notes which jobs of a queue with limits of its own were started: in a part of less than a hundred, or in a new one, which many of one claim have for
-- themselves. So a part is written again only while it is small, and there are never many. Those that have ended go.
CREATE FUNCTION outbox.note_started(queue text, ids uuid[], lease_token uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    limits outbox.queues;
    alone  uuid := CASE WHEN cardinality(note_started.ids) >= 100 THEN note_started.lease_token END;
BEGIN
    SELECT *
    INTO limits
    FROM outbox.queues
    WHERE name = note_started.queue;
    IF cardinality(note_started.ids) = 0 THEN
        RETURN;
    END IF;
    IF limits.concurrency IS NOT NULL THEN
        DELETE FROM outbox.queue_holders AS part
        WHERE part.queue = note_started.queue
          AND part.lease_token IS NOT NULL
          AND part.ended >= part.jobs;
        INSERT INTO outbox.queue_holders AS known (queue, part, jobs, ids, lease_token)
        SELECT
            note_started.queue,
            coalesce(
                (array_agg(part.part ORDER BY part.jobs) FILTER (WHERE part.jobs < 100 AND part.lease_token IS NULL AND alone IS NULL))[1],
                max(part.part) + 1,
                1),
            cardinality(note_started.ids),
            note_started.ids,
            alone
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

-- Of a claim in turn, and of workers that know no other one.
CREATE OR REPLACE FUNCTION outbox.note_started(queue text, ids uuid[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT outbox.note_started(note_started.queue, note_started.ids, NULL)
$$;

REVOKE ALL ON FUNCTION outbox.note_started(text, uuid[], uuid) FROM PUBLIC;
