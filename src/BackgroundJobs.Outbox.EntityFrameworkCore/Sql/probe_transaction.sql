-- Fails (25P02) in a transaction that an earlier error has aborted: its COMMIT would roll back without a word.
SELECT 1
