-- Only on a direct connection; through a pooler in transaction mode it would silently deliver nothing.
LISTEN outbox_jobs
