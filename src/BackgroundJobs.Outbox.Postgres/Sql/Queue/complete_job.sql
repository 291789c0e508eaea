-- In the handler's own transaction, which its settings must not touch: they are those of the procedure. @history as in finish_jobs.sql.
CALL outbox.complete_job(@id, @lease_token, @history, @result::jsonb)
