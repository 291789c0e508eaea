-- Compared with the process id that the server gave at the start of the connection: a pooler gives one of its own.
SELECT pg_backend_pid()
