-- Of these jobs those whose rows somebody holds. Waits for nobody.
SELECT id
FROM outbox.jobs
WHERE id = ANY (@ids::uuid[])
  AND id <> ALL (ARRAY(
      SELECT id
      FROM outbox.jobs
      WHERE id = ANY (@ids::uuid[])
      FOR UPDATE SKIP LOCKED))
