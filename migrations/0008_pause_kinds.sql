-- Why: an operator pauses the jobs of one kind, on all workers.

-- Whose jobs no claim takes (claim_jobs.sql, claim_in_turn.sql): in one queue, or in all where the queue is ''. Nearly always empty.
CREATE TABLE outbox.paused_kinds (
    kind         text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL DEFAULT '',
    paused_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by    text NOT NULL DEFAULT session_user,
    pause_reason text,
    CONSTRAINT paused_kinds_pkey PRIMARY KEY (kind, queue)
);
