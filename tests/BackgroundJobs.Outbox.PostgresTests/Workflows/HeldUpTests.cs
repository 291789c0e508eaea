using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Workflows;

// A job that waits for others, and that nobody can let go.
public sealed class HeldUpTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_is_locked_or_refused_holds_up_itself_alone()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        JobWorkflow flow = new();
        var parent = flow.Add(new NumberJob(1));
        var locked = flow.Add(new NumberJob(2), after: parent);
        var refused = flow.Add(new NumberJob(3), after: parent);
        var good = flow.Add(new NumberJob(4), after: parent);
        var hopeless = flow.Add(new NumberJob(5), after: parent.OnFailure);
        var behind = flow.Add(new NumberJob(6), after: hopeless.Always);
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        await database.ExecuteAsync($"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'Not this one.'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON outbox.jobs FOR EACH ROW WHEN (OLD.id = '{refused.Id}') EXECUTE FUNCTION refuse();
            """);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        await using (var holder = await database.HoldAsync($"id = '{locked.Id}'"))
        {
            var job = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, await Workers.RegisterAsync(database), ["number"])));
            Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(job, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false));

            var error = await Assert.ThrowsAsync<PostgresException>(() => queue.SettleAsync(connection, null, Cancellation));
            Assert.Contains(error.SqlState, new[] { PostgresErrorCodes.LockNotAvailable, PostgresErrorCodes.RaiseException });
            var released = 0;
            var more = true;
            while (more)
            {
                var settled = await queue.SettleApartAsync(connection, Cancellation);
                (released, more) = (released + settled.Released, settled.More);
                Assert.Equal(new[] { locked.Id, refused.Id }.Order(), settled.HeldUp.Order());
                Assert.Contains(settled.Error, new[] { PostgresErrorCodes.LockNotAvailable, PostgresErrorCodes.RaiseException });
            }

            Assert.Equal(2, released);
            Assert.Equal(["blocked", "blocked", "waiting", "cancelled", "waiting"], await StatesAsync());
        }

        await database.ExecuteAsync("DROP TRIGGER refuse ON outbox.jobs");
        Assert.Equal((2, false), await queue.SettleAsync(connection, null, Cancellation));
        Assert.Equal(["waiting", "waiting", "waiting", "cancelled", "waiting"], await StatesAsync());
        Assert.Equal(0, await database.ScalarAsync<long>("SELECT (SELECT count(*) FROM outbox.job_waits) + (SELECT count(*) FROM outbox.unsettled_jobs)"));

        Task<List<string>> StatesAsync() => database.TextsAsync("SELECT state FROM outbox.all_jobs WHERE args <> '{\"number\": 1}' ORDER BY args::text");
    }

    // The end of a parent was recorded by the session that then waited for the lock, and all other ends of the process with it.
    [Fault("J23", "somebody holds the row of a job that waits for others, or a trigger of the application's refuses its change", "it alone is held up, and goes on as soon as that ends")]
    [Fact]
    public async Task While_somebody_holds_a_job_that_waits_for_another_all_else_goes_on()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<int> ran = [];
        TaskCompletionSource isHeld = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (job, _, token) =>
        {
            if (job.Number == 1)
                await isHeld.Task.WaitAsync(token);
            ran.Enqueue(job.Number);
        }));
        JobWorkflow flow = new();
        var parent = flow.Add(new NumberJob(1));
        var child = flow.Add(new NumberJob(2), after: parent);
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await using (var holder = await database.HoldAsync($"id = '{child.Id}'"))
        {
            isHeld.SetResult();
            await EndedAsync(parent.Id);
            for (var round = 0; round < 5; round++)
            {
                JobWorkflow other = new();
                var last = other.Add(new NumberJob(12), after: other.Add(new NumberJob(11), after: other.Add(new NumberJob(10))));
                await worker.Queue.EnqueueAsync(other.Jobs, Cancellation);
                await worker.EnqueueAsync(new NumberJob(20));
                await EndedAsync(last.Id);
            }

            await Eventually.TrueAsync(() => worker.Log.Text.Contains("are locked or refused", StringComparison.Ordinal), "it says so");
            Assert.DoesNotContain(2, ran);
        }

        await EndedAsync(child.Id);

        Task EndedAsync(Guid id) => Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>($"SELECT EXISTS (SELECT FROM outbox.job_history WHERE id = '{id}')"), $"job {id} has ended");
    }
}
