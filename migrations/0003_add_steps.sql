-- Why: steps of a job that are done once however often it runs, and how far it is.

-- Not the domain of other objects: a new column with a check would make PostgreSQL write the whole table anew.
ALTER TABLE outbox.jobs
    ADD COLUMN steps jsonb,
    ADD COLUMN progress jsonb;

-- Of what gave up: a retry goes on behind its steps.
ALTER TABLE outbox.job_history
    ADD COLUMN steps jsonb;

-- Keeps a step of a running job, in the handler's own transaction or by itself, under the lease token it was claimed with: OB001 when the lease
-- was lost. Its plans are kept by the session: they must not be those of an empty table.
CREATE PROCEDURE outbox.save_step(id uuid, lease_token uuid, name text, step jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    UPDATE outbox.jobs
    SET steps = coalesce(steps, '{}') || jsonb_build_object(save_step.name, save_step.step || jsonb_build_object('at', clock_timestamp()))
    WHERE id = save_step.id
      AND lease_token = save_step.lease_token;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Job % is not this attempt''s any more', save_step.id
            USING ERRCODE = 'OB001', HINT = 'Roll back: its lease ended, and another attempt may be running.';
    END IF;

    -- Until the COMMIT this row is locked against every rescue. A process that freezes now must not hold it for ever.
    IF current_setting('idle_in_transaction_session_timeout')::interval NOT BETWEEN interval '1 ms' AND interval '1 min' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '1min', true);
    END IF;
END
$$;
