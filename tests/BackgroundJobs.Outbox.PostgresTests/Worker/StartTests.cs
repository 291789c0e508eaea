using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class StartTests
{
    [Fault("D14", "concurrency, leases and intervals out of range", "every fault named at once")]
    [Fact]
    public async Task Every_fault_of_the_options_is_named_at_once()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var error = await Assert.ThrowsAsync<OutboxException>(() => WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask),
            o =>
            {
                o.Queue("No Good", 0).Queue("twice");
                o.QueuesInOrder(0, "twice", "once").QueuesInOrder(3).QueuesByWeight(10_001, ("light", 0), ("heavy", 1001), ("light", 5));
                o.Limits("nobody's", new());
                o.MaxCrashes = 1;
                o.Lease = o.HeartbeatInterval;
            }));
        foreach (var part in new[]
        {
            "'No Good' has no allowed name", "'No Good' has a concurrency of 0", "MaxCrashes is 1", "Lease is", "AddOutboxWorker",
            "queue 'twice' stands in 2 places", "queue 'light' stands in 2 places", "queues 'twice', 'once' has a concurrency of 0 (1 to 10,000)",
            "3 slots are shared by no queue", "concurrency of 10001", "queue 'light' has a weight of 0 (1 to 1,000)", "'heavy' has a weight of 1001",
            "limits are declared of queue 'nobody's'",
        })
            Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_worker_without_handlers_does_not_start()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var error = await Assert.ThrowsAsync<OutboxException>(() => WorkerHost.StartAsync(database, _ => { }));
        Assert.Contains("no handlers", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_worker_on_a_database_without_our_schema_does_not_start_and_says_what_to_do()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask)));
        Assert.Contains("Migrat", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_schema_name_works_end_to_end()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await new BackgroundJobs.Outbox.Postgres.Migrator(database.DataSource, new OutboxOptions { Schema = "order" }).MigrateAsync(TestContext.Current.CancellationToken);
        await using var worker = await WorkerHost.StartAsync(database, o =>
        {
            o.Schema = "order";
            o.Handle<NumberJob>((_, _, _) => Task.CompletedTask);
        });
        await worker.EnqueueAsync(new NumberJob(1));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM \"order\".job_history WHERE state = 'completed'") == 1, "it runs");
    }
}
