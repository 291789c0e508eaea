using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Workflows;

// Batches that grow while they run: who waits for a job waits too for what that job has added alongside itself.
public sealed class AlongsideTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    // Each number finds two more, up to three digits, and comes to the sum of their digits' places: the last job reads all of them.
    [Fault("J24", "the jobs of a batch add others to it, some in transactions that are rolled back", "its last job runs after all that were committed, and reads what they left")]
    [Fact]
    public async Task The_last_job_of_a_batch_comes_after_all_that_was_added_while_it_ran()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<int> ran = [];
        List<int> read = [];
        await using var worker = await WorkerHost.StartAsync(database, o => o
            .Handle<NumberJob>(
                async (job, context, token) =>
                {
                    ran.Enqueue(job.Number);
                    context.Result(job.Number);
                    if (job.Number >= 100)
                        return;
                    await using FlowContext db = new(database.ConnectionString);
                    context.CompleteWith(db);
                    var flow = db.ContinueWorkflow(context);
                    flow.EnqueueAlongside(new NumberJob((job.Number * 10) + 1));
                    flow.EnqueueAlongside(() => new NumberJob((job.Number * 10) + 2));
                    await using var transaction = await db.Database.BeginTransactionAsync(token);
                    await db.SaveChangesAsync(token);
                    if (context.Failures == 0 && job.Number % 2 == 0)
                        throw new InvalidOperationException("After the save, before the commit.");
                    await transaction.CommitAsync(token);
                },
                kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(10)))
            .Handle<OtherJob>(async (_, context, token) => read.AddRange((await context.ParentsAsync(token)).Select(parent => parent.Result<int>()))));
        JobWorkflow flow = new();
        var first = flow.Add(new NumberJob(1));
        var second = flow.Add(new NumberJob(2));
        flow.Add(new OtherJob("last"), after: [first, second]);
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await worker.Queue.WaitForWorkflowAsync(flow.Id, TimeSpan.FromSeconds(30), Cancellation);

        int[] all = [1, 2, 11, 12, 21, 22, 111, 112, 121, 122, 211, 212, 221, 222];
        Assert.Equal(all, ran.Distinct().Order());
        Assert.Equal(all, read.Order());
        Assert.Equal(15, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'"));
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<long>("SELECT (SELECT count(*) FROM outbox.job_waits) + (SELECT count(*) FROM outbox.unsettled_jobs)") == 0, "nothing is left over");
    }

    [Theory]
    [InlineData(RunOn.Success, "cancelled", "completed")]
    [InlineData(RunOn.Always, "completed", "completed")]
    [InlineData(RunOn.Failure, "cancelled", "cancelled")]
    public async Task One_that_was_added_counts_as_the_job_that_added_it_does_and_its_retry_brings_back_what_waited(RunOn on, string first, string then)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var mended = false;
        JobWorkflow flow = new();
        var parent = flow.Add(new NumberJob(1));
        var child = flow.Add(new OtherJob("child"), after: on switch { RunOn.Success => parent, RunOn.Always => parent.Always, _ => parent.OnFailure });
        await using var worker = await WorkerHost.StartAsync(database, o => o
            .Handle<NumberJob>(async (job, context, token) =>
            {
                if (job.Number == 1)
                {
                    var more = JobWorkflow.Continue(context);
                    more.AddAlongside(new NumberJob(2));
                    await new JobQueue(database.DataSource).EnqueueAsync(more.Jobs, token);
                }
                else if (!mended)
                {
                    context.Dead("Not yet.");
                }
            })
            .Handle<OtherJob>((_, _, _) => Task.CompletedTask));
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await worker.Queue.WaitForWorkflowAsync(flow.Id, TimeSpan.FromSeconds(30), Cancellation);
        Assert.Equal(first, await StateAsync(child.Id));
        mended = true;
        Assert.Equal(1, await new JobAdmin(database.Operator).RetryAsync(new JobFilter { Kind = "number", States = [JobState.Dead] }, Cancellation));
        await worker.Queue.WaitForWorkflowAsync(flow.Id, TimeSpan.FromSeconds(30), Cancellation);
        Assert.Equal(then, await StateAsync(child.Id));

        Task<string> StateAsync(Guid id) => database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'");
    }

    [Theory]
    [InlineData(JobState.Completed, "waiting")]
    [InlineData(JobState.Dead, "cancelled")]
    public async Task One_that_has_ended_before_the_job_that_added_it_counts_as_well(JobState end, string then)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        JobWorkflow flow = new();
        var parent = flow.Add(new NumberJob(1));
        var last = flow.Add(new NumberJob(2), after: parent);
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        var worker = await Workers.RegisterAsync(database);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        var running = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));
        JobWorkflow more = new(flow.Id, OutboxOptions.Default, parent.Id);
        more.AddAlongside(new NumberJob(3));
        await queue.EnqueueAsync(more.Jobs, Cancellation);
        await EndAsync(Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]))), end);
        Assert.Equal("blocked", await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{last.Id}'"));
        await EndAsync(running, JobState.Completed);
        Assert.Equal(then, await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{last.Id}'"));

        async Task EndAsync(ClaimedJob job, JobState state)
        {
            Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(job, state, HistoryPolicy.Keep, null)], prepare: false));
            while ((await queue.SettleAsync(connection, null, Cancellation)).More)
            {
            }
        }
    }

    // One page is dead, and with it the last job; others go on, and find more; then the dead one is retried.
    [Fact]
    public async Task What_comes_back_waits_for_what_was_added_while_it_was_away()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        JobWorkflow flow = new();
        var dead = flow.Add(new NumberJob(1));
        var good = flow.Add(new NumberJob(2));
        var last = flow.Add(new NumberJob(3), after: [dead, good]);
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        var worker = await Workers.RegisterAsync(database);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        var before = await ClaimAsync();
        await EndAsync(before, dead, JobState.Dead);
        Assert.Equal("cancelled", await StateAsync(last.Id));

        JobWorkflow more = new(flow.Id, OutboxOptions.Default, good.Id);
        var found = more.AddAlongside(new NumberJob(4));
        await queue.EnqueueAsync(more.Jobs, Cancellation);
        Assert.True(await new JobAdmin(database.Operator).RetryAsync(dead.Id, Cancellation));
        Assert.Equal("blocked", await StateAsync(last.Id));
        var after = await ClaimAsync();
        await EndAsync(after, dead, JobState.Completed);
        await EndAsync(before, good, JobState.Completed);
        Assert.Equal("blocked", await StateAsync(last.Id));
        Assert.Equal(found.Id, await database.ScalarAsync<Guid>($"SELECT parent_id FROM outbox.job_waits WHERE job_id = '{last.Id}'"));
        await EndAsync(after, found, JobState.Completed);
        Assert.Equal("waiting", await StateAsync(last.Id));

        async Task<IReadOnlyList<ClaimedJob>> ClaimAsync() => await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]));

        async Task EndAsync(IReadOnlyList<ClaimedJob> claimed, WorkflowJob job, JobState state)
        {
            Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(claimed.Single(each => each.Id == job.Id), state, HistoryPolicy.Keep, null)], prepare: false));
            while ((await queue.SettleAsync(connection, null, Cancellation)).More)
            {
            }
        }

        Task<string> StateAsync(Guid id) => database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'");
    }

    [Fact]
    public async Task It_is_remembered_as_long_as_one_of_them_has_not_ended_and_forgotten_with_the_history()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        var worker = await Workers.RegisterAsync(database);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        JobWorkflow flow = new();
        flow.Add(new NumberJob(1));
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        var running = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));
        JobWorkflow more = new(flow.Id, OutboxOptions.Default, running.Id);
        more.AddAlongside(new NumberJob(2));
        await queue.EnqueueAsync(more.Jobs, Cancellation);
        await database.ExecuteAsync("UPDATE outbox.alongside_jobs SET made_at = now() - interval '15 days'");
        Assert.Equal(1, await ForgottenAsync());
        Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(running, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false));
        Assert.Equal(1, await ForgottenAsync());
        running = Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"])));
        Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(running, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false));
        Assert.Equal(0, await ForgottenAsync());

        async Task<long> ForgottenAsync()
        {
            await queue.ForgetAlongsideAsync(TimeSpan.FromDays(14), Cancellation);
            return await database.ScalarAsync<long>("SELECT count(*) FROM outbox.alongside_jobs");
        }
    }

    [Fault("J25", "a handler that has lost its job adds others alongside it", "refused, or waited for: nothing that was committed is left out")]
    [Fact]
    public async Task What_does_not_run_has_nothing_alongside_and_its_end_waits_for_who_adds()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        JobWorkflow flow = new();
        var parent = flow.Add(new NumberJob(1));
        var child = flow.Add(new NumberJob(2), after: parent);
        JobWorkflow other = new();
        other.Add(new NumberJob(3));
        await queue.EnqueueAsync([.. flow.Jobs, .. other.Jobs], Cancellation);

        // Before anything is sent.
        Assert.Contains("none does", Assert.Throws<InvalidOperationException>(() => flow.AddAlongside(new NumberJob(4))).Message, StringComparison.Ordinal);
        Assert.Contains(
            "unique by a key, and other jobs are to wait for it",
            Assert.Throws<InvalidJobException>(() => new JobWorkflow(flow.Id, OutboxOptions.Default, parent.Id).AddAlongside(new NumberJob(4), new() { Unique = UniqueJob.WhileWaiting("key") })).Message,
            StringComparison.Ordinal);

        // It has not begun; it is of another workflow; it is none.
        await RefusedAsync(flow.Id, parent.Id);
        var claimed = await queue.ClaimAsync(ClaimRequest.Everything("default", 10, await Workers.RegisterAsync(database), ["number"]));
        Assert.Equal(2, claimed.Count);
        await RefusedAsync(other.Id, parent.Id);
        await RefusedAsync(flow.Id, Guid.NewGuid());
        const string Row = "INSERT INTO outbox.jobs (id, kind, args, priority, workflow_id, depends_on) VALUES (gen_random_uuid(), 'a', '{}', 2, ";
        foreach (var rest in new[] { $"'{flow.Id}', '{{\"{parent.Id}\": \"success\"}}'", $"NULL, '{{\"{parent.Id}\": \"alongside\"}}'", $"'{flow.Id}', '{{}}'", $"'{flow.Id}', '[]'", $"'{flow.Id}', '{{\"{parent.Id}\": \"alongside\", \"{child.Id}\": \"success\"}}'" })
            Assert.Contains("lets it run at once", (await Assert.ThrowsAsync<PostgresException>(() => database.ExecuteAsync(Row + rest + ")"))).MessageText, StringComparison.Ordinal);

        // The end of the attempt is set aside while who had it before adds something, and recorded after.
        var running = claimed.Single(job => job.Id == parent.Id);
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        await using (var adding = await database.DataSource.OpenConnectionAsync(Cancellation))
        {
            await using var transaction = await adding.BeginTransactionAsync(Cancellation);
            JobWorkflow more = new(flow.Id, OutboxOptions.Default, parent.Id);
            more.AddAlongside(new NumberJob(5));
            await queue.EnqueueAsync(transaction, more.Jobs, Cancellation);
            Assert.Equal(PostgresErrorCodes.LockNotAvailable, (await Assert.ThrowsAsync<PostgresException>(FinishAsync)).SqlState);
            await transaction.CommitAsync(Cancellation);
        }

        Assert.Empty(await FinishAsync());
        while ((await queue.SettleAsync(connection, null, Cancellation)).More)
        {
        }

        Assert.Equal("blocked", await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{child.Id}'"));
        await RefusedAsync(flow.Id, parent.Id);
        Assert.Equal(1, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.alongside_jobs"));

        Task<List<Guid>> FinishAsync() => queue.FinishAsync(connection, [new FinishedJob(running, JobState.Completed, HistoryPolicy.Keep, null)], prepare: false);

        async Task RefusedAsync(Guid workflow, Guid job)
        {
            JobWorkflow more = new(workflow, OutboxOptions.Default, job);
            var added = more.AddAlongside(new NumberJob(4));
            var error = await Assert.ThrowsAsync<LeaseLostException>(() => queue.EnqueueAsync(more.Jobs, Cancellation));
            Assert.StartsWith($"Job {added.Id} cannot be added alongside job {job} of workflow {workflow}, which does not run: its lease ended", error.Message, StringComparison.Ordinal);
        }
    }

    private sealed class FlowContext(string connectionString) : DbContext
    {
        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseNpgsql(connectionString).UseOutbox();
    }
}
