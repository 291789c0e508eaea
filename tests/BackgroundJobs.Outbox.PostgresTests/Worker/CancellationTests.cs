using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class CancellationTests
{
    [Fact]
    public async Task An_attempt_that_takes_longer_than_its_kind_may_is_cancelled_and_counts_as_a_failure()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            (_, _, token) => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token),
            kind => (kind.Timeout, kind.Retry) = (TimeSpan.FromMilliseconds(300), RetryPolicy.None)));
        await worker.EnqueueAsync(new NumberJob(1));
        await EndedAsync(database, "dead");
        var error = await database.ScalarAsync<string>("SELECT errors->0->>'message' FROM outbox.job_history");
        Assert.Contains("took longer than the 00:00:00.3000000", error, StringComparison.Ordinal);
    }

    [Fault("W26", "a handler never returns and ignores its token", "reported; its slot is counted as stuck")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_handler_that_ignores_its_cancellation_is_reported_and_its_slot_is_shown_as_stuck(bool blocksItsThread)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        using var gate = new SemaphoreSlim(0);
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o
                .Handle<NumberJob>(
                    async (_, _, _) =>
                    {
                        if (blocksItsThread)
                            gate.Wait(CancellationToken.None);
                        else
                            await gate.WaitAsync(CancellationToken.None);
                    },
                    kind => (kind.Timeout, kind.Retry) = (TimeSpan.FromMilliseconds(200), RetryPolicy.None))
                .Handle<OtherJob>((_, _, _) => Task.CompletedTask),
            o => (o.CancellationGrace, o.HeartbeatInterval) = (TimeSpan.FromMilliseconds(300), TimeSpan.FromMilliseconds(200)));
        await worker.EnqueueAsync(new NumberJob(1));
        await EndedAsync(database, "dead");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<int>("SELECT stuck FROM outbox.workers") == 1, "the slot is shown as stuck");
        Assert.Contains("ignores its cancellation (Timeout)", worker.Log.Text, StringComparison.Ordinal);

        // The other slots go on.
        await worker.EnqueueAsync(new OtherJob("x"));
        await EndedAsync(database, "completed");
        gate.Release();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<int>("SELECT stuck FROM outbox.workers") == 0, "the slot is free again");
    }

    [Fact]
    public async Task An_operators_cancel_reaches_the_token_of_a_running_handler()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var started = new TaskCompletionSource();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (_, _, token) =>
        {
            started.SetResult();
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);
        }));
        var id = await worker.EnqueueAsync(new NumberJob(1));
        await started.Task;
        var asked = TimeProvider.System.GetTimestamp();
        await new JobAdmin(database.Operator).CancelAsync(id, cancellationToken: TestContext.Current.CancellationToken);
        await EndedAsync(database, "cancelled");
        TestContext.Current.TestOutputHelper?.WriteLine($"Cancelled after {TimeProvider.System.GetElapsedTime(asked).TotalMilliseconds:F0} ms.");
    }

    [Fact]
    public async Task A_cancel_that_came_while_a_job_ran_also_ends_it_when_it_was_given_back()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, context, _) =>
            {
                await database.ExecuteAsync($"UPDATE outbox.jobs SET cancel_requested_at = now() WHERE id = '{context.JobId}'");
                context.Snooze(TimeSpan.Zero);
            }),
            o => o.HeartbeatInterval = TimeSpan.FromMilliseconds(200));
        await worker.EnqueueAsync(new NumberJob(1));
        await EndedAsync(database, "cancelled");
        Assert.Equal(1, await database.ScalarAsync<int>("SELECT attempt FROM outbox.job_history"));
    }

    private static Task EndedAsync(ScratchDatabase database, string state) => Eventually.TrueAsync(
        async () => await database.ScalarAsync<long>($"SELECT count(*) FROM outbox.job_history WHERE state = '{state}'") == 1, $"a job is {state}");
}
