-- The time limits of this transaction alone.
SELECT
    set_config('lock_timeout', @lock_timeout, true),
    set_config('statement_timeout', @statement_timeout, true)
