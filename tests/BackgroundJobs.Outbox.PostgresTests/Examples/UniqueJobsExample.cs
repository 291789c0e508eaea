using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

// The examples of docs/unique-jobs.md, compiled. What stands between the marks stands there, word for word.
internal static class UniqueJobsExample
{
    public static async Task EnqueueAsync(DbContext db, Shop shop)
    {
        // readme:begin
        shop.Name = "new";
        db.Enqueue(new IndexShop(shop.Id), new() { Unique = UniqueJob.WhileWaiting($"{shop.Id}") });
        await db.SaveChangesAsync();
        // readme:end
    }

    public static IEnumerable<UniqueJob> Rules(string key)
    {
        UniqueJob[] rules =
        [
            // readme:begin
            UniqueJob.WhileWaiting(key),                                                            // not run while another one waits
            UniqueJob.WhileUnfinished(key),                                                         // nor while another one runs
            UniqueJob.Within(key, TimeSpan.FromHours(1)),                                           // nor when one has run, or is to, that came within the hour before it
            UniqueJob.Replace(key),                                                                 // takes the place of the one that waits, and its time
            UniqueJob.Debounce(key, TimeSpan.FromSeconds(5), max: TimeSpan.FromMinutes(1)),         // when none has come for 5 s, a minute after the first at the latest
            UniqueJob.Throttle(key, TimeSpan.FromMinutes(1)),                                       // a minute after the last one began; of those that come meanwhile the newest
            // readme:end
        ];
        return rules;
    }

    public static async Task<EndedJob> WaitAsync(JobQueue queue, Guid jobId, CancellationToken cancellationToken)
    {
        // readme:begin
        var ended = await queue.WaitAsync(jobId, TimeSpan.FromSeconds(30), cancellationToken);
        while (ended.Met is { } met)                                                            // it was not run: this one stands for it
            ended = await queue.WaitAsync(met, TimeSpan.FromSeconds(30), cancellationToken);
        // readme:end
        return ended;
    }

    internal sealed class Shop
    {
        public int Id { get; set; }

        public string Name { get; set; } = "";
    }

    internal sealed record IndexShop(int ShopId) : IJob
    {
        public static string Kind => "index_shop";
    }
}
