using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

// The examples of docs/schedules.md, compiled. What stands between the marks stands there, word for word.
internal static class SchedulesExample
{
    public static void Declare(IServiceCollection services)
    {
        // readme:begin
        services.AddOutboxWorker(worker => worker.Schedule(
            new JobSchedule { Name = "bills", Cron = "0 2 * * *", TimeZone = "Europe/Berlin", Overlap = false },
            new SendBills("monthly"),
            new EnqueueOptions { Queue = "reports", Group = "billing" }));                        // the queue, group, priority ... of each of its jobs
        // readme:end
    }

    public static async Task WithDataAsync(DbContext db, JobQueue queue, CancellationToken cancellationToken)
    {
        // readme:begin
        await using var transaction = await db.Database.BeginTransactionAsync(cancellationToken);
        db.Add(new Tenant { Name = "a" });
        await db.SaveChangesAsync(cancellationToken);
        await queue.SetScheduleAsync(db.NpgsqlTransaction(), new JobSchedule { Name = "bills-of-a", Cron = "0 3 1 * *" }, new SendBills("a"), cancellationToken: cancellationToken);
        await transaction.CommitAsync(cancellationToken);                                         // the tenant and its schedule, or neither
        // readme:end
    }

    public static async Task<Guid?> OperateAsync(JobAdmin admin)
    {
        // readme:begin
        await admin.PauseScheduleAsync("bills");
        await admin.ResumeScheduleAsync("bills");
        Guid? job = await admin.RunScheduleAsync("bills");                                        // now; its ticks stay what they are
        // readme:end
        return job;
    }

    internal sealed class Tenant
    {
        public int Id { get; set; }

        public required string Name { get; set; }
    }

    internal sealed record SendBills(string What) : IJob
    {
        public static string Kind => "send_bills";
    }
}
