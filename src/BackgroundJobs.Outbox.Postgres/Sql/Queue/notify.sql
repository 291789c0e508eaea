-- Sent after the commit it tells of, in a transaction of its own that need not wait for the disk: inside the user's it would take a
-- database-wide lock at COMMIT.
SELECT
    set_config('synchronous_commit', 'off', true),
    pg_notify(@channel, @payload)
