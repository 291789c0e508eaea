-- Evaluates a column's own default, once per row that is about to be inserted with it. The expression is the model's HasDefaultValueSql.
SELECT /*default*/ now()
FROM generate_series(1, @count::integer)
