-- Sent after the commit it tells of, in a transaction of its own: inside the user's it would take a database-wide lock at COMMIT.
-- A NOTIFY, not a SELECT of pg_notify: that took 0.8 ms in a session that had lain idle, this 0.4, and a worker's start waits for it. It
-- writes nothing but its commit, so it does not wait for the disk. It takes no parameters: the payload is put in as a literal.
NOTIFY outbox_jobs, @payload
