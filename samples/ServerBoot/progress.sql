SELECT
    (SELECT count(*) FROM servers) AS committed,
    (SELECT count(*) FROM servers WHERE booted_at IS NOT NULL) AS booted,
    (SELECT count(*) FROM outbox.jobs WHERE lease_token IS NULL) AS waiting,
    (SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL) AS running;
SELECT worker_pid, count(*) FROM boots GROUP BY worker_pid;
SELECT w.process_id, count(*) FROM outbox.jobs AS j JOIN outbox.workers AS w ON w.id = j.worker_id GROUP BY w.process_id;
