-- The health of our tables: size, dead rows, last vacuum, age; and, beside each, the session that holds back vacuum the most.
-- Who may not see other roles' sessions (pg_read_all_stats) sees only its own. Bounded: 100 rows, from the catalog alone.
BEGIN TRANSACTION READ ONLY;
SET LOCAL statement_timeout = '5s';
SET LOCAL lock_timeout = '1s';
SET LOCAL jit = off;

WITH holders AS (
    SELECT
        age(backend_xmin) AS xids,
        clock_timestamp() - xact_start AS held_for,
        format('session %s of %s (%s), %s: %s', pid, usename, coalesce(nullif(application_name, ''), '?'), state, left(query, 200)) AS holder
    FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL
      AND pid <> pg_backend_pid()
      AND backend_type <> 'autovacuum worker'
    UNION ALL
    SELECT
        greatest(age(xmin), age(catalog_xmin)),
        NULL,
        format('replication slot %s, active: %s', slot_name, active)
    FROM pg_replication_slots
    WHERE xmin IS NOT NULL
       OR catalog_xmin IS NOT NULL
    UNION ALL
    SELECT
        age(transaction),
        clock_timestamp() - prepared,
        format('prepared transaction %s of %s', gid, owner)
    FROM pg_prepared_xacts
    UNION ALL
    SELECT 0, NULL, format('what sessions of other roles hold cannot be seen: GRANT pg_read_all_stats TO %I', current_user)
    WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')
),
worst AS (
    SELECT xids, held_for, holder
    FROM holders
    ORDER BY xids DESC, held_for DESC NULLS LAST
    LIMIT 1
)
SELECT
    class.relname::text AS table_name,
    stats.n_live_tup AS live_rows,
    stats.n_dead_tup AS dead_rows,
    pg_table_size(class.oid) AS table_bytes,
    pg_indexes_size(class.oid) AS index_bytes,
    greatest(stats.last_vacuum, stats.last_autovacuum) AS last_vacuum,
    greatest(stats.last_analyze, stats.last_autoanalyze) AS last_analyze,
    age(class.relfrozenxid)::bigint AS frozen_age,
    worst.xids::bigint AS held_xids,
    worst.held_for,
    worst.holder
FROM pg_class AS class
JOIN pg_stat_all_tables AS stats ON stats.relid = class.oid
LEFT JOIN worst ON true
WHERE class.relkind = 'r'
  AND class.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'outbox.jobs'::regclass)
ORDER BY pg_total_relation_size(class.oid) DESC, class.relname
LIMIT 100;

COMMIT;
