-- Whether the schema is there at all.
SELECT to_regclass('outbox.migrations') IS NOT NULL
