-- As use_indexes.sql, for a statement that finds its rows by a list of keys, and joins what it found with that list: by hash, however few
-- rows statistics expect, which count the living and not the dead that a scan passes over. And one row that somebody holds must not hold up all others
-- of the list.
SELECT
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true),
    set_config('enable_nestloop', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('jit', 'off', true),
    set_config('lock_timeout', '1s', true)
