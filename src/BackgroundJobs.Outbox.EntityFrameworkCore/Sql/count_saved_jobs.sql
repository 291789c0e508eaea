-- How many of these jobs are in the outbox, whatever became of them: whether an earlier try of a save was committed although its answer was
-- lost. A job's id is made once, before the first try.
SELECT count(*)
FROM (
    SELECT id
    FROM outbox.jobs
    WHERE id = ANY (@ids::uuid[])
    UNION
    SELECT id
    FROM outbox.job_history
    WHERE id = ANY (@ids::uuid[])
) AS saved
