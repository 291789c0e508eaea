-- Groups of a queue that are out of line for a reason that is over: less of their jobs run than may, or the job that is to be the next one is due, or
-- gone. Who ended it did not live to say so, or is about to: one that is here again a moment later in the same version was missed. Locks nothing: what is
-- told of them (free_groups.sql) is decided under their locks.
SELECT known.job_group::text, known.xmin::text AS version
FROM outbox.job_groups AS known
JOIN outbox.queues AS limits ON limits.name = known.queue
WHERE known.queue = @queue
  AND known.look_at > now()
  AND known.paused_until IS NULL
  AND CASE
      WHEN known.state = 'full' THEN (
          (SELECT count(*) FROM outbox.jobs AS job WHERE job.id = ANY (known.holders) AND job.lease_token IS NOT NULL)
          < CASE WHEN limits.group_order = 'any' THEN coalesce(known.concurrency, limits.group_concurrency) ELSE 1 END) IS NOT FALSE
      WHEN known.head IS NOT NULL THEN NOT EXISTS (
          SELECT
          FROM outbox.jobs AS job
          WHERE job.id = known.head
            AND job.run_at > now()
            AND job.cancel_requested_at IS NULL)
      ELSE false
  END
