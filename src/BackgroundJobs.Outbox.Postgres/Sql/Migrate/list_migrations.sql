-- What was applied, by this version of the library or another.
SELECT version, name, breaking
FROM outbox.migrations
ORDER BY version
