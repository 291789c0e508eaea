using BackgroundJobs.Outbox.Worker;

namespace BackgroundJobs.Outbox.PostgresTests.Queues;

// The arithmetic of shared slots, without a database.
public sealed class QueueTurnsTests
{
    // Jobs start on other threads while it is counted how many wait. Counted twice, those that started in between had been taken for jobs of later queues
    // that wait: as many more were claimed, and held up what came then to the first queue.
    [Fact]
    public async Task Slots_that_are_all_taken_claim_no_more_while_their_jobs_start()
    {
        for (var round = 0; round < 300; round++)
        {
            TaskCompletionSource open = new(TaskCreationOptions.RunContinuationsAsynchronously);
            WorkerSlots slots = new(new DeclaredSlots(200, ["high", "low"]), TimeSpan.FromMinutes(1), TimeProvider.System);
            var started = 0;
            slots.Start(
                () => _ =>
                {
                    Interlocked.Increment(ref started);
                    return open.Task;
                },
                () => { });
            slots.Queues[0].MayHaveMore = false;
            slots.Add(slots.Queues[1], [.. Enumerable.Range(0, 200).Select(_ => Job("low"))]);
            do
                Assert.Empty(slots.Requests(Guid.Empty, []));
            while (Volatile.Read(ref started) < 200);
            open.SetResult();
            await slots.CloseAsync();
        }
    }

    private static ClaimedJob Job(string queue) => new()
    {
        Id = Guid.NewGuid(),
        Kind = "number",
        Args = [],
        Queue = queue,
        Priority = 2,
        RunAt = default,
        CreatedAt = default,
        MaxAttempts = 1,
        Failures = 0,
        Crashes = 0,
        Attempt = 1,
        LeaseToken = default,
        WorkerId = default,
        ClaimedAt = default,
    };
}
