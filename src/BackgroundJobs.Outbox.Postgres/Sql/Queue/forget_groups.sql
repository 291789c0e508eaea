-- Forgets groups that have nothing to do and nothing to be remembered: no job that runs, no setting, no start within the period. They come back as
-- they were when they have a job again.
DELETE FROM outbox.job_groups AS old
WHERE state = 'idle'
  AND weight = 1
  AND concurrency IS NULL
  AND head IS NULL
  AND paused_until IS NULL
  AND NOT EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = ANY (old.holders) AND job.lease_token IS NOT NULL)
  AND NOT EXISTS (
      SELECT
      FROM outbox.queues AS limits
      WHERE limits.name = old.queue
        AND old.started_at[cardinality(old.started_at)] > clock_timestamp() - limits.group_rate_period)
