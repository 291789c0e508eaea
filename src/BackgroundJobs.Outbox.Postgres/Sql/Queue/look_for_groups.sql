-- Of these queues those in which groups are looked for now that are out of line for a reason that is over (list_missed_groups.sql): one worker does it
-- twice a minute for all. The moment is of the database's clock, and one that is still to come, after that was set back, counts for nothing.
UPDATE outbox.queues AS limits
SET groups_looked_at = clock_timestamp()
WHERE limits.ctid = ANY (ARRAY(
    SELECT ctid
    FROM outbox.queues
    WHERE name = ANY (@queues)
      AND limited
      AND groups_looked_at NOT BETWEEN now() - interval '30 seconds' AND now()
    FOR NO KEY UPDATE SKIP LOCKED))
RETURNING limits.name
