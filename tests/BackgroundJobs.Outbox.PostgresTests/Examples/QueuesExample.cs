using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Worker;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

// The examples of docs/queues.md, compiled. What stands between the marks stands there, word for word.
internal static class QueuesExample
{
    public static void Declare(OutboxWorkerOptions worker)
    {
        // readme:begin
        worker.Queue("mail", concurrency: 20);
        worker.QueuesInOrder(20, "critical", "default", "low");
        worker.QueuesByWeight(20, ("customers", 6), ("partners", 3), ("internal", 1));
        worker.Limits("partners", new QueueLimits { Rate = new(100, TimeSpan.FromSeconds(1)) });
        // readme:end
    }

    public static async Task PauseAsync(JobAdmin admin)
    {
        // readme:begin
        await admin.PauseQueueAsync("mail", reason: "The provider is down.");
        await admin.PauseKindAsync("send_invoice", reason: "Wrong totals.");
        await admin.PauseKindAsync("sync_shop", queue: "low");                                  // in this queue alone
        await admin.ResumeKindAsync("send_invoice");
        // readme:end
    }
}
