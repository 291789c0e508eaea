-- Whether a worker holds this job right now.
SELECT EXISTS (SELECT FROM outbox.jobs WHERE id = @id AND lease_token IS NOT NULL)
