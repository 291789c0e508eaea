-- Why: groups for the jobs of schedules and of outbox.enqueue; and unique keys and parents for those of the latter.

-- Not a domain: as in outbox.jobs.
ALTER TABLE outbox.schedules
    ADD COLUMN job_group text COLLATE "C",
    ADD CONSTRAINT schedules_group_is_1_to_200_characters CHECK (length(job_group) BETWEEN 1 AND 200);

-- As before, and when the group is changed.
CREATE OR REPLACE TRIGGER schedules_note_change
BEFORE UPDATE OF kind, args, headers, queue, priority, max_attempts, cron, every, time_zone, missed, missed_limit, overlap, paused_at, job_group
ON outbox.schedules
FOR EACH ROW EXECUTE FUNCTION outbox.note_schedule_change();

-- As before, with five arguments more at the end: calls by name and by position mean what they meant. It takes the place of the old one, for
-- of two that both have defaults PostgreSQL could not tell which is called.
CREATE FUNCTION outbox.enqueue(
    kind         text,
    args         jsonb DEFAULT '{}',
    queue        text DEFAULT 'default',
    priority     integer DEFAULT 2,
    run_at       timestamptz DEFAULT NULL,
    delay        interval DEFAULT NULL,
    max_attempts integer DEFAULT 20,
    headers      jsonb DEFAULT NULL,
    id           uuid DEFAULT NULL,
    job_group    text DEFAULT NULL,
    unique_key   text DEFAULT NULL,
    unique_rule  jsonb DEFAULT '{"rule": "unfinished"}',
    workflow_id  uuid DEFAULT NULL,
    depends_on   jsonb DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    job_id uuid := coalesce(enqueue.id, outbox.new_job_id());
BEGIN
    IF enqueue.kind IS NULL OR enqueue.kind !~ '^[a-z0-9][a-z0-9_.:-]*$' OR length(enqueue.kind) > 63 THEN
        RAISE EXCEPTION 'Job kind % cannot be used', quote_nullable(left(enqueue.kind, 80))
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use 1 to 63 characters of a-z 0-9 _ . : - and start with a letter or a digit.';
    END IF;
    IF enqueue.queue IS NULL OR enqueue.queue !~ '^[a-z0-9][a-z0-9_.:-]*$' OR length(enqueue.queue) > 63 THEN
        RAISE EXCEPTION 'Queue name % cannot be used', quote_nullable(left(enqueue.queue, 80))
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use 1 to 63 characters of a-z 0-9 _ . : - and start with a letter or a digit.';
    END IF;
    IF enqueue.args IS NULL OR jsonb_typeof(enqueue.args) <> 'object' THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its args are no JSON object', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass an object, such as {"id": 7}.';
    END IF;
    IF octet_length(enqueue.args::text) > 65536 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its args are % bytes, more than the 65536 allowed',
            quote_literal(enqueue.kind), octet_length(enqueue.args::text)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Store the data in a table of your own and pass its key.';
    END IF;
    IF enqueue.headers IS NOT NULL AND (jsonb_typeof(enqueue.headers) <> 'object' OR octet_length(enqueue.headers::text) > 16384) THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its headers are no JSON object of at most 16384 bytes', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass an object of small texts, such as {"tenant": "a"}.';
    END IF;
    IF enqueue.priority IS NULL OR enqueue.priority NOT BETWEEN 1 AND 4 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: priority % is out of range', quote_literal(enqueue.kind), enqueue.priority
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 (first) to 4 (last).';
    END IF;
    IF enqueue.max_attempts IS NULL OR enqueue.max_attempts NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: max attempts % is out of range', quote_literal(enqueue.kind), enqueue.max_attempts
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 1000.';
    END IF;
    IF enqueue.run_at IS NOT NULL AND enqueue.delay IS NOT NULL THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: both run_at and delay are given', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one of them.';
    END IF;
    IF NOT isfinite(coalesce(enqueue.run_at, now())) THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: run_at is no moment', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a date and a time, not infinity.';
    END IF;
    IF enqueue.delay < interval '0' THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: delay is negative', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give zero or more.';
    END IF;
    IF length(enqueue.job_group) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: its group has % characters', quote_literal(enqueue.kind), length(enqueue.job_group)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 200, or NULL for none.';
    END IF;
    IF enqueue.unique_key IS NOT NULL AND enqueue.unique_rule ->> 'rule' = 'debounce' AND coalesce(enqueue.run_at::text, enqueue.delay::text) IS NOT NULL THEN
        RAISE EXCEPTION 'Job % cannot be enqueued: it is debounced, which says when it runs, and run_at or delay is given', quote_literal(enqueue.kind)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave them out.';
    END IF;

    -- With a unique key or with parents it is blocked at first, and a trigger says what is wrong with them.
    INSERT INTO outbox.jobs (
        id, kind, args, queue, priority, run_at, max_attempts, headers, job_group, unique_key, unique_rule, workflow_id, depends_on)
    VALUES (
        job_id,
        enqueue.kind,
        enqueue.args,
        enqueue.queue,
        CASE WHEN num_nonnulls(enqueue.unique_key, enqueue.depends_on) = 0 THEN enqueue.priority ELSE -enqueue.priority END,
        coalesce(enqueue.run_at, now() + coalesce(enqueue.delay, interval '0')),
        enqueue.max_attempts,
        enqueue.headers,
        enqueue.job_group,
        enqueue.unique_key,
        CASE WHEN enqueue.unique_key IS NOT NULL THEN enqueue.unique_rule END,
        enqueue.workflow_id,
        enqueue.depends_on);
    RETURN job_id;
END
$$;

REVOKE ALL ON FUNCTION outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid, text, text, jsonb, uuid, jsonb) FROM PUBLIC;

-- Who could call the old one can call this one.
DO $grants$
DECLARE
    old         constant regprocedure := 'outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid)';
    grant_again text;
BEGIN
    FOR grant_again IN
        SELECT format(
            'GRANT EXECUTE ON FUNCTION outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid, text, text, jsonb, uuid, jsonb) TO %s%s',
            CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END,
            CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' END)
        FROM pg_proc AS proc
        CROSS JOIN LATERAL aclexplode(proc.proacl) AS acl
        WHERE proc.oid = old
          AND acl.grantee <> proc.proowner
    LOOP
        EXECUTE grant_again;
    END LOOP;
END
$grants$;

DROP FUNCTION outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid);
