-- Forgets groups that have nothing to do and nothing to be remembered: no job that runs, no setting, no start within the period. They come back as
-- they were when they have a job again. Only in the version that was seen: one that a claim holds meanwhile may be idle again afterwards, and the jobs
-- that this claim has started are not in the snapshot that would say so. One of a queue stays: it says that groups take turns there (takes_turns).
DELETE FROM outbox.job_groups AS old
USING outbox.job_groups AS seen
WHERE old.ctid = seen.ctid
  AND seen.state = 'idle'
  AND old.weight = 1
  AND old.concurrency IS NULL
  AND old.head IS NULL
  AND old.paused_until IS NULL
  AND (
      old.job_group = ''
      OR EXISTS (SELECT FROM outbox.job_groups AS other WHERE other.queue = old.queue AND other.job_group > old.job_group))
  AND NOT EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = ANY (old.holders) AND job.lease_token IS NOT NULL)
  AND NOT EXISTS (
      SELECT
      FROM outbox.queues AS limits
      WHERE limits.name = old.queue
        AND old.started_at[cardinality(old.started_at)] > clock_timestamp() - limits.group_rate_period)
