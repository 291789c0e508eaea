-- What an operator did, in the transaction that did it.
INSERT INTO outbox.operations (verb, jobs, what)
VALUES (@verb, @jobs, @what::jsonb)
