-- Whether the schema is there at all. Asks the catalog's tables: to_regclass may answer from a cache that is as old as the transaction,
-- and so older than the lock that this one has just waited for.
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_class AS class
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE ARRAY[namespace.nspname::text, class.relname::text] = parse_ident('outbox.migrations')
)
