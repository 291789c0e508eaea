-- Keeps a step of a running job, fenced: see outbox.save_step.
CALL outbox.save_step(@id, @lease_token, @name, @step::jsonb)
