using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

// What PostgreSQL says, in words that say what to do.
internal static class OutboxErrors
{
    public static OutboxException? Translate(PostgresException e, string schema) => e.SqlState switch
    {
        LeaseLostException.SqlState => LeaseLostException.Of(e.MessageText, e),
        InvalidJobException.SqlState => InvalidJobException.Of(e.MessageText, e.Hint, e),
        PostgresErrorCodes.UndefinedTable or PostgresErrorCodes.InvalidSchemaName or PostgresErrorCodes.UndefinedFunction => new OutboxSchemaException(
            $"This database has no outbox in schema '{schema}' ({e.MessageText}). Run the Migrator against it, or connect to the database that has it.", e),
        PostgresErrorCodes.UndefinedColumn => new OutboxSchemaException(
            $"The outbox in schema '{schema}' is older than this version of BackgroundJobs.Outbox ({e.MessageText}). Run the Migrator against it.", e),
        PostgresErrorCodes.UniqueViolation when e.SchemaName == schema && e.ConstraintName == "jobs_pkey" => new DuplicateJobException(
            "A job with this id is in the outbox already: the same enqueue was made twice, or an id was reused. Nothing was written; look the job up by its id.", e),
        _ => null,
    };
}
