-- A comment with @not_a_parameter.
SELECT @second::text, @first, @second
FROM outbox.jobs
-- Another one.
WHERE args @> '{}'
  AND headers ->> 'mail' = 'someone@example.org'
  AND id = ANY (@ids::uuid[])
