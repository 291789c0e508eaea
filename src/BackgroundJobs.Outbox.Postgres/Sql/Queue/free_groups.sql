-- Jobs of these groups have ended or were given back (migrations/0005).
SELECT outbox.free_groups(@queues, @groups)
