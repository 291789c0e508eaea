-- Takes values from the sequence behind an identity or serial column, for rows that are about to be inserted with them.
SELECT nextval(pg_get_serial_sequence(@table, @column))
FROM generate_series(1, @count::integer)
