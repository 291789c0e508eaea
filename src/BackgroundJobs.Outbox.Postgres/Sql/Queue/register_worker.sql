-- Starts the lease of one incarnation of a worker process. Its id is random: a process that lost its lease comes back under a new one.
INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds)
VALUES (@worker, @name, @host, @process_id, @version, @lease, @queues::jsonb, @kinds)
