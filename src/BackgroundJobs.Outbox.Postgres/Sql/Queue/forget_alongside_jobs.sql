-- What ran alongside what is remembered as long as finished jobs are, and as long as one of the two has not ended.
DELETE FROM outbox.alongside_jobs AS alongside
WHERE made_at <= now() - @retention::interval
  AND NOT EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = alongside.job_id)
  AND NOT EXISTS (SELECT FROM outbox.jobs AS job WHERE job.id = alongside.alongside_id)
