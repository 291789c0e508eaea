-- Why: a job of no workflow, group or unique key paid for those columns with every SaveChanges: an insert says all columns that are mapped, null or not.

-- Where EF Core inserts a job that has to do with others. What is inserted here is a row of outbox.jobs like any other; its triggers look at it there.
CREATE VIEW outbox.related_jobs AS
SELECT
    id,
    kind,
    args,
    queue,
    priority,
    run_at,
    max_attempts,
    headers,
    traceparent,
    workflow_id,
    depends_on,
    job_group,
    unique_key,
    unique_rule
FROM outbox.jobs;
