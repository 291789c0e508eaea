-- Goes before the statements that run all the time, in their transaction. Their plans are kept, and one that was made while the table was
-- small, or by stale statistics, reads the whole table, which a long transaction elsewhere may have filled with dead rows by then.
SELECT
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true)
