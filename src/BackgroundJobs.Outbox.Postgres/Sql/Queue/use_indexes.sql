-- Goes before the statements that run all the time, in their transaction (@is_local), or once in a session that runs nothing else. Their plans
-- are kept, and one that was made while the table was small, or by stale statistics, reads the whole table, which a long transaction elsewhere
-- may have filled with dead rows by then. And a kept plan of a table that was large is compiled (jit) each time it runs. The isolation is for
-- the session's later transactions: claims in turn read what is true after a lock.
SELECT
    set_config('enable_seqscan', 'off', @is_local),
    set_config('enable_bitmapscan', 'off', @is_local),
    set_config('enable_hashjoin', 'off', @is_local),
    set_config('enable_mergejoin', 'off', @is_local),
    set_config('jit', 'off', @is_local),
    set_config('default_transaction_isolation', 'read committed', @is_local)
