using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// What a failed save says about our tables, in words that say what to do. Everything else is left as EF throws it.
internal static class SaveErrors
{
    private static readonly string[] Ours = ["\"jobs\"", "\"related_jobs\"", "\"job_history\"", "complete_job", "save_step"];

    public static void Translate(DbContext context, Exception exception)
    {
        var schema = OutboxDbContextExtensions.Outbox(context).Schema;
        if (exception is not OutboxException && (exception as PostgresException ?? exception.InnerException as PostgresException) is { } e && Translated(e, schema) is { } clear)
            throw clear;
    }

    private static OutboxException? Translated(PostgresException e, string schema) => e.SqlState switch
    {
        LeaseLostException.SqlState => LeaseLostException.Of(e.MessageText, e),
        InvalidJobException.SqlState => InvalidJobException.Of(e.MessageText, e.Hint, e),
        PostgresErrorCodes.UndefinedTable or PostgresErrorCodes.InvalidSchemaName when e.MessageText.Contains($"\"{schema}", StringComparison.Ordinal) => new OutboxSchemaException(
            $"This database has no outbox in schema '{schema}', or one that is older than this version of BackgroundJobs.Outbox ({e.MessageText}). Nothing was written. Run the Migrator against it, or connect to the database that has it.", e),
        PostgresErrorCodes.UndefinedColumn or PostgresErrorCodes.UndefinedFunction when IsOurs(e.MessageText) => new OutboxSchemaException(
            $"The outbox in schema '{schema}' is older than this version of BackgroundJobs.Outbox ({e.MessageText}). Nothing was written. Run the Migrator against it.", e),
        PostgresErrorCodes.UniqueViolation when e.SchemaName == schema && e.ConstraintName == "jobs_pkey" => new DuplicateJobException(
            "A job with this id is in the outbox already: the same enqueue was saved twice, or an id was reused. This save wrote nothing; look the job up by its id to see whether the first one did.", e),
        PostgresErrorCodes.NotNullViolation when e.SchemaName == schema && e is { TableName: "jobs", ColumnName: "args" } => new OutboxException(
            "A late-bound job was added by an interceptor that ran after ours, so its arguments were not evaluated. Nothing was written. Call UseOutbox() after AddInterceptors(...).", e),
        _ => null,
    };

    private static bool IsOurs(string message) => Array.Exists(Ours, each => message.Contains(each, StringComparison.Ordinal));
}
