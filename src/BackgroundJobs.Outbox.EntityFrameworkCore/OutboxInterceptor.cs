using System.Data.Common;
using System.Transactions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// What a job needs of SaveChanges beyond being a tracked row. One instance for all contexts, without state; a context's own state is its
// PendingJobs. The order of events, on which this rests:
//   SavingChanges     before EF looks at the tracker and opens its transaction; outside of a retrying strategy, so once per save.
//   SavedChanges      after COMMIT where EF made the transaction, before it where the application or an ambient scope did.
//   TransactionCommitted   only for transactions that EF knows; the context must not be used in it.
internal sealed class OutboxInterceptor : SaveChangesInterceptor, IDbTransactionInterceptor, IDbCommandInterceptor
{
    private OutboxInterceptor()
    {
    }

    public static OutboxInterceptor Instance { get; } = new();

    public override InterceptionResult<int> SavingChanges(DbContextEventData eventData, InterceptionResult<int> result)
    {
        if (Prepare(eventData.Context) is { } binding)
            binding.Run();
        return result;
    }

    public override async ValueTask<InterceptionResult<int>> SavingChangesAsync(
        DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
    {
        if (Prepare(eventData.Context) is { } binding)
            await binding.RunAsync(cancellationToken).ConfigureAwait(false);
        return result;
    }

    public override int SavedChanges(SaveChangesCompletedEventData eventData, int result)
    {
        Saved(eventData.Context!);
        return result;
    }

    public override ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
    {
        Saved(eventData.Context!);
        return ValueTask.FromResult(result);
    }

    public override void SaveChangesFailed(DbContextErrorEventData eventData)
    {
        EarlierTry.Of(eventData.Context!, Pending(eventData.Context)!, eventData.Exception)?.Translate(eventData.Exception);
        SaveErrors.Translate(eventData.Context!, eventData.Exception);
    }

    public override async Task SaveChangesFailedAsync(DbContextErrorEventData eventData, CancellationToken cancellationToken = default)
    {
        if (EarlierTry.Of(eventData.Context!, Pending(eventData.Context)!, eventData.Exception) is { } earlier)
            await earlier.TranslateAsync(eventData.Exception, cancellationToken).ConfigureAwait(false);
        SaveErrors.Translate(eventData.Context!, eventData.Exception);
    }

    public InterceptionResult TransactionCommitting(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result)
    {
        if (Pending(eventData.Context) is { CommandFailed: true } && Probe(transaction) is { } probe)
        {
            using (probe)
            {
                try
                {
                    probe.ExecuteNonQuery();
                }
                catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.InFailedSqlTransaction)
                {
                    throw Aborted(e);
                }
            }
        }

        return result;
    }

    public async ValueTask<InterceptionResult> TransactionCommittingAsync(
        DbTransaction transaction, TransactionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
    {
        if (Pending(eventData.Context) is { CommandFailed: true } && Probe(transaction) is { } probe)
        {
            await using (probe.ConfigureAwait(false))
            {
                try
                {
                    await probe.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
                }
                catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.InFailedSqlTransaction)
                {
                    throw Aborted(e);
                }
            }
        }

        return result;
    }

    public void TransactionCommitted(DbTransaction transaction, TransactionEndEventData eventData) => Committed(eventData.Context);

    public Task TransactionCommittedAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
    {
        Committed(eventData.Context);
        return Task.CompletedTask;
    }

    public void TransactionRolledBack(DbTransaction transaction, TransactionEndEventData eventData) => Pending(eventData.Context)?.Forget();

    public Task TransactionRolledBackAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
    {
        Pending(eventData.Context)?.Forget();
        return Task.CompletedTask;
    }

    public void RolledBackToSavepoint(DbTransaction transaction, TransactionEventData eventData) => Mended(eventData.Context);

    public Task RolledBackToSavepointAsync(DbTransaction transaction, TransactionEventData eventData, CancellationToken cancellationToken = default)
    {
        Mended(eventData.Context);
        return Task.CompletedTask;
    }

    public void CommandFailed(DbCommand command, CommandErrorEventData eventData) => Failed(command, eventData);

    public Task CommandFailedAsync(DbCommand command, CommandErrorEventData eventData, CancellationToken cancellationToken = default)
    {
        Failed(command, eventData);
        return Task.CompletedTask;
    }

    private static PendingJobs? Pending(DbContext? context) => context?.GetService<PendingJobs>();

    private static LateBinding? Prepare(DbContext? context)
    {
        if (context is null)
            return null;
        var pending = Pending(context)!;
        JobRules.Apply(context, pending);
        pending.Rows.RemoveAll(row => row.EntryIn(context).State == EntityState.Detached);
        if ((pending.Rows.Count > 0 || pending.IsCompleting || pending.IsKeepingSteps)
            && context.Database.AutoTransactionBehavior == AutoTransactionBehavior.Never
            && context.GetService<IRelationalConnection>().CurrentTransaction is null
            && Transaction.Current is null)
        {
            throw new OutboxException(
                $"{context.GetType().Name} has AutoTransactionBehavior.Never and no transaction is open, so its jobs and steps would not be saved together with their data. "
                + "Begin a transaction around SaveChanges, or use AutoTransactionBehavior.WhenNeeded. Nothing was written.");
        }

        return LateBinding.Of(context, pending);
    }

    private static void Saved(DbContext context)
    {
        var pending = Pending(context)!;
        pending.Saved(pending.Rows.Count > 0 ? SavedRows.Take(context, pending) : []);
        // Not from context.Database, whose services nobody else needs in a save: they take a twentieth of it.
        if (context.GetService<IRelationalConnection>().CurrentTransaction is not null)
            return;
        if (Transaction.Current is { } ambient)
            pending.Follow(ambient, JobWakeUp.For(context).Raise);
        else
            Committed(context, pending);
    }

    private static void Committed(DbContext? context)
    {
        if (Pending(context) is { } pending)
            Committed(context!, pending);
    }

    private static void Committed(DbContext context, PendingJobs pending)
    {
        if (pending.Committed() is { Count: > 0 } hints)
            JobWakeUp.For(context).Raise(hints);
    }

    private static void Failed(DbCommand command, CommandErrorEventData eventData)
    {
        if (command.Transaction is not null && Pending(eventData.Context) is { } pending)
            pending.CommandFailed = true;
    }

    private static void Mended(DbContext? context) => Pending(context)?.RolledBackToSavepoint();

    private static NpgsqlCommand? Probe(DbTransaction transaction) => transaction is NpgsqlTransaction { Connection: { } connection } npgsql
        ? new NpgsqlCommand(SqlFile.Read(typeof(OutboxInterceptor).Assembly, "sql/probe_transaction.sql", JobDefaults.Schema).Text, connection, npgsql)
        : null;

    private static OutboxException Aborted(PostgresException e) => new(
        "The transaction cannot be committed: an earlier command in it failed, so PostgreSQL would roll it back and report success. "
        + "Its data and its jobs are not there. Roll back, and handle the error where the command failed.", e);
}
