-- Wakes the workers of other processes, after the commit it tells of, in a transaction of its own that need not wait for the disk.
SELECT
    set_config('synchronous_commit', 'off', true),
    pg_notify(@channel, payload)
FROM unnest(@payloads::text[]) AS payload
