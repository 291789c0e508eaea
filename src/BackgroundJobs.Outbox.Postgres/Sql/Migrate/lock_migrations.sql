-- One migrates at a time, per schema. A transaction's lock: through a pooler a session's would outlive its client.
SELECT pg_advisory_xact_lock(hashtextextended('outbox.migrations', 0))
