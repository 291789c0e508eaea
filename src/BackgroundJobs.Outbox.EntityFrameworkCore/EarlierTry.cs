using System.Transactions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A retrying strategy repeats a save whose COMMIT had no answer. When that COMMIT did happen, the repeated insert meets its own rows: at the
// jobs' key, which SaveErrors translates, or before it at one of the application's (late binding takes keys before the insert, so a retry has
// the same ones), and then the save would end in words that say the opposite of what is there. Its jobs tell.
internal sealed class EarlierTry
{
    private readonly NpgsqlConnection template;
    private readonly OutboxOptions options;
    private readonly Guid[] ids;

    private EarlierTry(NpgsqlConnection template, OutboxOptions options, Guid[] ids)
    {
        this.template = template;
        this.options = options;
        this.ids = ids;
    }

    // Null: there is none to find, or the error says it by itself. In a transaction of the application's, the application repeats, and knows.
    public static EarlierTry? Of(DbContext context, PendingJobs pending, Exception exception)
    {
        if (exception.InnerException is not PostgresException { SqlState: PostgresErrorCodes.UniqueViolation, ConstraintName: not "jobs_pkey" }
            || pending.Rows.Count == 0
            || Transaction.Current is not null)
        {
            return null;
        }

        var relational = context.GetService<IRelationalConnection>();
        return relational.CurrentTransaction is null && relational.DbConnection is NpgsqlConnection connection
            ? new EarlierTry(connection, OutboxDbContextExtensions.Outbox(context), [.. pending.Rows.Select(row => row.Id)])
            : null;
    }

    public void Translate(Exception exception)
    {
        long found;
        try
        {
            using var connection = (NpgsqlConnection)((ICloneable)template).Clone();
            connection.Open();
            using var command = Command(connection);
            found = (long)command.ExecuteScalar()!;
        }
        catch (NpgsqlException)
        {
            // As below.
            return;
        }

        Judge(found, exception);
    }

    public async Task TranslateAsync(Exception exception, CancellationToken cancellationToken)
    {
        long found;
        try
        {
            var connection = (NpgsqlConnection)((ICloneable)template).Clone();
            await using (connection.ConfigureAwait(false))
            {
                await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
                await using var command = Command(connection);
                found = (long)(await command.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false))!;
            }
        }
        catch (Exception e) when (e is NpgsqlException or OperationCanceledException)
        {
            // What cannot be known is not said: the save's own error stands.
            return;
        }

        Judge(found, exception);
    }

    private NpgsqlCommand Command(NpgsqlConnection connection) =>
        new(SqlFile.Read(typeof(EarlierTry).Assembly, "sql/count_saved_jobs.sql", options.Schema).Text, connection)
        {
            Parameters = { new NpgsqlParameter<Guid[]> { TypedValue = ids } },
        };

    private void Judge(long found, Exception exception)
    {
        if (found == ids.Length)
            throw new DuplicateJobException(
                "This save's jobs are in the outbox already: an earlier try of it, or of one with the same job ids, was committed, most likely one whose answer was lost. "
                + "This try wrote nothing. Take it as saved, and read it in a new context.",
                exception);
    }
}
