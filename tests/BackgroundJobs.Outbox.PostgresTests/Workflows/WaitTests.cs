using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.Extensions.Time.Testing;

namespace BackgroundJobs.Outbox.PostgresTests.Workflows;

// Feed and finish: who enqueues waits for the end of a job or a batch.
public sealed class WaitTests
{
    private static readonly TimeSpan Enough = TimeSpan.FromSeconds(20);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Who_enqueues_gets_the_result_and_how_the_job_ended()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((job, context, _) =>
        {
            if (job.Number < 0)
                context.Dead("No negative numbers.");
            else
                context.Result(new Square(job.Number * job.Number));
            return Task.CompletedTask;
        }));

        // As who may enqueue and nothing else.
        JobQueue queue = new(database.Enqueuer);
        var good = NewJob.Create(new NumberJob(7));
        var bad = NewJob.Create(new NumberJob(-7));
        await queue.EnqueueAsync([good, bad], Cancellation);
        var ended = await queue.WaitAsync(good.Id, Enough, Cancellation);
        Assert.Equal((good.Id, "number", JobState.Completed, new Square(49)), (ended.Id, ended.Kind, ended.State, ended.Result<Square>()));
        ended = await queue.WaitAsync(bad.Id, Enough, Cancellation);
        Assert.Equal((JobState.Dead, false, null), (ended.State, ended.HasResult, ended.Result<Square>()));

        // Of no job there is nothing to wait for.
        Assert.Null((await queue.WaitAsync(Guid.NewGuid(), Enough, Cancellation)).State);
    }

    [Fact]
    public async Task A_batch_is_waited_for_as_a_whole_and_its_last_job_runs_when_all_have_ended()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (job, context, token) =>
        {
            if (job.Number == 13)
                context.Dead("Bad luck.");
            if (job.Number == 100)
                context.Result((await context.ParentsAsync(token)).Count(each => each.State == JobState.Completed));
        }));
        JobWorkflow batch = new();
        var parts = Enumerable.Range(0, 50).Select(n => batch.Add(new NumberJob(n))).ToList();
        var last = batch.Add(new NumberJob(100), after: [.. parts.Select(each => each.Always)]);
        await worker.Queue.EnqueueAsync(batch.Jobs, Cancellation);
        await worker.Queue.WaitForWorkflowAsync(batch.Id, Enough, Cancellation);
        Assert.Equal(49, (await worker.Queue.WaitAsync(last.Id, Enough, Cancellation)).Result<int>());
        var progress = await new JobInspector(database.Inspector).WorkflowAsync(batch.Id, Cancellation);
        Assert.Equal((51, 50, 1, 0), (progress!.Total, progress.Completed, progress.Dead, progress.Blocked));
    }

    [Fact]
    public async Task A_wait_ends_in_time_and_with_its_token_and_a_database_without_outbox_says_so()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        var job = NewJob.Create(new NumberJob(1));
        await queue.EnqueueAsync([job], Cancellation);
        var error = await Assert.ThrowsAsync<TimeoutException>(() => queue.WaitAsync(job.Id, TimeSpan.FromMilliseconds(200), Cancellation));
        Assert.Equal($"Job {job.Id} has not ended within 00:00:00.2000000. It goes on all the same; wait again, or ask JobInspector where it is.", error.Message);
        using CancellationTokenSource source = new();
        var wait = queue.WaitAsync(job.Id, Enough, source.Token);
        await source.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);

        await using var empty = await ScratchDatabase.EmptyAsync();
        await Assert.ThrowsAsync<OutboxSchemaException>(() => new JobQueue(empty.Admin).WaitAsync(job.Id, Enough, Cancellation));
    }

    // Others wait long since, and are asked for once a second.
    [Fact]
    public async Task Who_comes_later_need_not_wait_for_the_turn_of_those_who_wait_longer()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        FakeTimeProvider time = new(TimeProvider.System.GetUtcNow());
        var statements = 0;
        JobQueue queue = new(database.DataSource, new OutboxOptions
        {
            TimeProvider = time,
            FaultPoint = point =>
            {
                statements += point == "wait" ? 1 : 0;
                return Task.CompletedTask;
            },
        });
        var job = NewJob.Create(new NumberJob(1));
        await queue.EnqueueAsync([job], Cancellation);
        using CancellationTokenSource end = new();
        var patient = queue.WaitAsync(job.Id, TimeSpan.FromHours(1), end.Token);
        await Eventually.TrueAsync(
            () =>
            {
                // Again and again: it may not have begun to wait yet.
                time.Advance(TimeSpan.FromSeconds(10));
                return Task.FromResult(statements > 0);
            },
            "it was asked for the first");

        // Until that answer is there and the next turn a second away.
        await Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, Cancellation);
        var late = queue.WaitAsync(Guid.NewGuid(), TimeSpan.FromHours(1), Cancellation);
        await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, Cancellation);
        time.Advance(TimeSpan.FromMilliseconds(25));
        Assert.Null((await late.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, Cancellation)).State);
        Assert.False(patient.IsCompleted);
        await end.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => patient);
    }

    // 200 who wait a second are not 200 times as many statements as one who does.
    [Fact]
    public async Task However_many_wait_one_statement_at_a_time_asks_for_all()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var statements = 0;
        JobQueue queue = new(database.DataSource, new OutboxOptions
        {
            FaultPoint = point =>
            {
                statements += point == "wait" ? 1 : 0;
                return Task.CompletedTask;
            },
        });
        List<NewJob> jobs = [.. Enumerable.Range(0, 200).Select(n => NewJob.Create(new NumberJob(n)))];
        await queue.EnqueueAsync(jobs, Cancellation);
        var waits = jobs.ConvertAll(job => queue.WaitAsync(job.Id, Enough, Cancellation));
        await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System, Cancellation);
        await database.ExecuteAsync("DELETE FROM outbox.jobs");
        Assert.All(await Task.WhenAll(waits), ended => Assert.Null(ended.State));
        Assert.InRange(statements, 3, 50);
    }

    private sealed record Square(int Value);
}
