-- In the transaction that retries these jobs: what was cancelled because of them is blocked again (migrations/0004).
SELECT outbox.bring_back_children(@ids::uuid[])
