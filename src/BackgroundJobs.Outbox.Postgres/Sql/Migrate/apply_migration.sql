-- Applies one migration unless the database has it, whoever else comes at the same time: the lock is held until the transaction ends.
-- A template, because DO takes no parameters: the version, the name and the body are put in when it is read.
DO $guard$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('outbox.migrations', 0));
    -- Not to_regclass: see has_migrations.sql.
    IF EXISTS (
        SELECT
        FROM pg_catalog.pg_class AS class
        JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE ARRAY[namespace.nspname::text, class.relname::text] = parse_ident('outbox.migrations')
    ) THEN
        IF EXISTS (SELECT FROM outbox.migrations WHERE version = @version) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $body$
@body
$body$;
    INSERT INTO outbox.migrations (version, name, breaking)
    VALUES (@version, '@name', @breaking);
END
$guard$;
