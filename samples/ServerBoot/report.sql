-- The whole report from the database. p50 and p99 are over the first start of every job, those that waited for the kill included.
SELECT
    (SELECT count(*) FROM servers) AS committed,
    (SELECT count(*) FROM ledger WHERE NOT committed) AS rolled_back,
    (SELECT count(*) FROM servers WHERE booted_at IS NOT NULL) AS booted,
    (SELECT count(*) FROM not_found) AS record_not_found,
    (SELECT count(*) FROM (SELECT FROM boots GROUP BY server_id HAVING count(*) > 1) AS twice) AS booted_twice,
    (SELECT count(*) FROM boots AS b WHERE NOT EXISTS (SELECT FROM ledger AS l WHERE l.server_id = b.server_id AND l.committed)) AS ghost_boots,
    (
        SELECT extract(epoch FROM min(a.started_at) - min(h.killed_at))::float8
        FROM held_at_kill AS h
        JOIN attempts AS a ON a.job_id = h.job_id AND a.started_at > h.killed_at
    ) AS recovery_seconds,
    w.p50,
    w.p99,
    (SELECT count(*) FROM held_at_kill) AS held,
    (SELECT count(*) FROM outbox.jobs) AS unfinished,
    (SELECT count(*) FROM outbox.job_history WHERE state <> 'completed') AS gave_up,
    (SELECT count(*) FROM ledger AS l WHERE l.committed AND NOT EXISTS (SELECT FROM servers AS s WHERE s.id = l.server_id)) AS lost,
    (SELECT count(*) FROM attempts) AS starts
FROM (
    SELECT
        percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS p50,
        percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99
    FROM (
        -- A job may start before its enqueuer hears of the commit: that is 0.
        SELECT greatest(0, extract(epoch FROM min(a.started_at) - min(l.ended_at)) * 1000)::float8 AS ms
        FROM ledger AS l
        JOIN attempts AS a ON a.server_id = l.server_id
        WHERE l.committed
        GROUP BY l.server_id
    ) AS waits
) AS w;
