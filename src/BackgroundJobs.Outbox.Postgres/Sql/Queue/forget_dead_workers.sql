-- The last step of a rescue: nothing names these workers any more. One whose job was passed over stays, so that the next rescue finds it.
DELETE FROM outbox.workers AS worker
WHERE dead_at IS NOT NULL
  AND NOT EXISTS (
      SELECT
      FROM outbox.jobs AS job
      WHERE job.worker_id = worker.id
  )
