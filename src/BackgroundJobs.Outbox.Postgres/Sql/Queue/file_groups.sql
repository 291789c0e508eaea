-- Puts the groups of due jobs of a queue with limits in line, from a cursor on (migrations/0005). @limit: how many jobs are looked at.
SELECT seen_run_at, seen_id, more
FROM outbox.file_groups(@queue, @after_run_at, @after_id, @limit)
