using System.Net;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Worker;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

// The examples of docs/limits.md, compiled. What stands between the marks stands there, word for word.
internal static class LimitsExample
{
    public static void Declare(OutboxWorkerOptions worker)
    {
        // readme:begin
        worker.Queue("mail", concurrency: 20, new QueueLimits { Concurrency = 50, Rate = new(100, TimeSpan.FromSeconds(1)) });
        worker.Queue("sync", concurrency: 20, new QueueLimits { GroupConcurrency = 2, GroupRate = new(60, TimeSpan.FromMinutes(1)) });
        worker.Queue("ledger", concurrency: 20, new QueueLimits { GroupOrder = GroupOrder.Strict });
        worker.Queue("reports", concurrency: 20, new QueueLimits());
        // readme:end
    }

    public static async Task ChangeAsync(JobAdmin admin, DateTimeOffset soon)
    {
        // readme:begin
        await admin.SetLimitsAsync("mail", new QueueLimits { Concurrency = 10 });                // workers hear of it with their next heartbeat
        await admin.SetGroupAsync("sync", "tenant 7", weight: 3, concurrency: 5);                // three turns where others get one; five at a time
        await admin.PauseGroupAsync("sync", "tenant 8", until: soon, reason: "They move.");
        // readme:end
    }

    public static async Task PassOverAsync(JobAdmin admin, JobInspector inspector)
    {
        // readme:begin
        foreach (var blocked in await inspector.BlockedGroupsAsync())
            Console.WriteLine($"{blocked.Queue} {blocked.JobGroup}: {blocked.Why} {blocked.BehindJobId}");
        await admin.ResumeGroupAsync("ledger", "account 7");                                     // passes the dead job over
        // readme:end
    }

    public static void PushBack(JobContext context, HttpResponseMessage response)
    {
        // readme:begin
        if (response.StatusCode == HttpStatusCode.TooManyRequests)
            context.PushBack(response.Headers.RetryAfter?.Delta ?? TimeSpan.FromSeconds(30));
        // readme:end
    }
}
