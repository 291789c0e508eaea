-- Sent after the commit it tells of, in a transaction of its own: inside the user's it would take a database-wide lock at COMMIT.
SELECT pg_notify(@channel, @payload)
