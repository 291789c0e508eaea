using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

// Somebody holds the row of a job that runs: an operator's open transaction, or a long one of its own handler.
public sealed class HeldRowTests
{
    // Ends are recorded many at a time: one that waited held up all others of its process.
    [Fault("W40", "somebody holds the rows of jobs that run", "their ends are recorded as soon as that ends, all others at once")]
    [Fact]
    public async Task The_ends_of_jobs_whose_rows_somebody_holds_hold_up_no_other()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<int> ran = [];
        using CountdownEvent running = new(2);
        TaskCompletionSource isHeld = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(
                async (job, _, token) =>
                {
                    ran.Enqueue(job.Number);
                    if (job.Number <= 2)
                    {
                        running.Signal();
                        await isHeld.Task.WaitAsync(token);
                    }

                    if (job.Number is 2 or 12)
                        throw new InvalidOperationException("Not today.");
                },
                kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromHours(1))));
        await worker.EnqueueAsync(new NumberJob(1));
        await worker.EnqueueAsync(new NumberJob(2));
        await Eventually.TrueAsync(() => running.IsSet, "both run");
        await using (var holder = await database.HoldAsync("lease_token IS NOT NULL"))
        {
            isHeld.SetResult();
            for (var round = 1; round <= 5; round++)
            {
                await worker.EnqueueAsync(new NumberJob(11));
                await worker.EnqueueAsync(new NumberJob(12));
                await Eventually.TrueAsync(
                    async () => await database.ScalarAsync<string>("SELECT concat((SELECT count(*) FROM outbox.job_history), ' ', (SELECT count(*) FROM outbox.jobs WHERE failures > 0))") == $"{round} {round}",
                    "those that nobody holds have ended");
            }

            Assert.Equal(2, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL"));
            await Eventually.TrueAsync(() => worker.Log.Text.Split("cannot be recorded as long as somebody holds its row").Length == 3, "it says so of both");
        }

        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<string>("SELECT string_agg(concat_ws(' ', state, args ->> 'number', failures), ', ' ORDER BY args ->> 'number') FROM outbox.all_jobs WHERE args ->> 'number' IN ('1', '2')") == "completed 1 0, retrying 2 1",
            "the others have ended too");
        Assert.Equal([1, 2], ran.Where(each => each <= 2).Order());
    }

    // A loop of the worker saves what all of them have said, and then looks after the jobs of the dead.
    [Fact]
    public async Task What_a_job_says_is_saved_although_somebody_holds_the_row_of_another()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        TaskCompletionSource isHeld = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource end = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using CountdownEvent running = new(2);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (job, context, token) =>
        {
            running.Signal();
            await isHeld.Task.WaitAsync(token);
            context.Progress(0.5, $"half of {job.Number}");
            await end.Task.WaitAsync(token);
        }));
        await worker.EnqueueAsync(new NumberJob(1));
        await worker.EnqueueAsync(new NumberJob(2));
        await Eventually.TrueAsync(() => running.IsSet, "both run");
        await using (var holder = await database.HoldAsync("args ->> 'number' = '1'"))
        {
            isHeld.SetResult();
            await Eventually.TrueAsync(
                async () => await database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM outbox.jobs WHERE progress::text LIKE '%half of 2%')"), "what job 2 has said is saved");
        }

        end.SetResult();
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 2, "both have ended");
    }

    // The same loop ends what was cancelled while it ran, and then given back.
    [Fact]
    public async Task Cancelled_jobs_that_wait_end_although_somebody_holds_the_row_of_another()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        await queue.EnqueueAsync([.. Enumerable.Range(1, 3).Select(n => NewJob.Create(new NumberJob(n), new() { Delay = TimeSpan.FromHours(1) }))], TestContext.Current.CancellationToken);
        await database.ExecuteAsync("UPDATE outbox.jobs SET cancel_requested_at = now() WHERE args ->> 'number' < '3'");
        await using var holder = await database.HoldAsync("args ->> 'number' = '1'");
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await EndedAsync(2);
        await database.ExecuteAsync("UPDATE outbox.jobs SET cancel_requested_at = now() WHERE args ->> 'number' = '3'");
        await EndedAsync(3);
        Assert.Equal(1, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
        await holder.DisposeAsync();
        await EndedAsync(1);

        Task EndedAsync(int number) => Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>($"SELECT EXISTS (SELECT FROM outbox.job_history WHERE state = 'cancelled' AND args ->> 'number' = '{number}')"), $"job {number} has ended");
    }
}
