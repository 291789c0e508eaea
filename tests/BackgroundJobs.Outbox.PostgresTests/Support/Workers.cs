using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// Workers as rows, for tests that claim by hand.
internal static class Workers
{
    public static async Task<Guid> RegisterAsync(ScratchDatabase database, TimeSpan? lease = null)
    {
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        var worker = new WorkerRegistration(Guid.NewGuid(), "test", "here", 1, "0", lease ?? TimeSpan.FromMinutes(10), "{}", ["number"]);
        new JobQueue(database.DataSource).Register(connection, worker);
        return worker.Id;
    }
}
