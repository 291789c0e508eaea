using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

// The examples of docs/long-jobs.md, compiled. What stands between the marks stands there, word for word.
internal static class LongJobsExample
{
    public static async Task StepsAsync(ChargeOrder job, JobContext context, IPayments payments, IMail mail, CancellationToken cancellationToken)
    {
        // readme:begin
        var receipt = await context.StepAsync("charge", token => payments.ChargeAsync(job.OrderId, idempotencyKey: $"{context.JobId}-charge", token), cancellationToken);
        await context.StepAsync("mail", token => mail.SendAsync(receipt, token), cancellationToken);
        // readme:end
    }

    public static async Task<Receipt?> TransactionalAsync(JobContext context, NpgsqlConnection connection, Func<NpgsqlTransaction, Task<Receipt>> charge, CancellationToken cancellationToken)
    {
        // readme:begin
        if (!context.TryGetStep("charge", out Receipt? receipt))
        {
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            receipt = await ChargeAsync(transaction);
            await context.SaveStepAsync(transaction, "charge", receipt, cancellationToken);       // last, before the commit
            await transaction.CommitAsync(cancellationToken);
        }
        // readme:end
        return receipt;

        Task<Receipt> ChargeAsync(NpgsqlTransaction transaction) => charge(transaction);
    }

    public static async Task<Receipt?> WithEfAsync(ChargeOrder job, JobContext context, DbContext db, CancellationToken cancellationToken)
    {
        // readme:begin
        if (!context.TryGetStep("charge", out Receipt? receipt))
        {
            receipt = new Receipt($"receipt of {job.OrderId}");
            db.Add(new Charge { Number = receipt.Number });
            context.SaveStepWith(db, "charge", receipt);
            await db.SaveChangesAsync(cancellationToken);
        }
        // readme:end
        return receipt;
    }

    internal interface IPayments
    {
        Task<Receipt> ChargeAsync(int orderId, string idempotencyKey, CancellationToken cancellationToken);
    }

    internal interface IMail
    {
        Task SendAsync(Receipt receipt, CancellationToken cancellationToken);
    }

    internal sealed class Charge
    {
        public int Id { get; set; }

        public required string Number { get; set; }
    }

    internal sealed record Receipt(string Number);

    internal sealed record ChargeOrder(int OrderId) : IJob
    {
        public static string Kind => "charge_order";
    }
}
