using System.Collections.Concurrent;
using System.Security.Cryptography;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

// A job of several steps runs again behind those that are done; and says how far it is.
public sealed class StepTests
{
    private static readonly Action<KindOptions> AtOnce = kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(10));

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Each_step_is_done_once_however_often_the_job_runs_and_later_attempts_get_its_result()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> done = [];
        ConcurrentQueue<(int Attempt, Receipt Receipt, string? Note)> seen = [];
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            async (job, context, token) =>
            {
                var receipt = await context.StepAsync("charge", async _ =>
                {
                    done.Enqueue("charge");
                    await Task.Yield();
                    return new Receipt(job.Number, "paid");
                }, token);
                var note = await context.StepAsync<string?>("nothing", _ => Task.FromResult<string?>(null), token);
                await context.StepAsync("mail", _ =>
                {
                    done.Enqueue("mail");
                    return context.Failures < 1 ? throw new InvalidOperationException("no mail today") : Task.CompletedTask;
                }, token);
                seen.Enqueue((context.Attempt, receipt, note));
                if (context.Failures < 3)
                    throw new InvalidOperationException("and again");
            },
            AtOnce));
        var id = await worker.EnqueueAsync(new NumberJob(7));
        await EndedAsync(database, id, "completed");
        Assert.Equal(["charge", "mail", "mail"], done);
        Assert.Equal([(2, new Receipt(7, "paid"), null), (3, new Receipt(7, "paid"), null), (4, new Receipt(7, "paid"), null)], seen);
        Assert.Null(await database.ScalarAsync<string?>("SELECT steps::text FROM outbox.job_history"));
    }

    [Fact]
    public async Task A_step_of_an_attempt_that_has_lost_its_job_is_not_kept_and_says_so()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var lost = new TaskCompletionSource<Exception?>();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (_, context, token) =>
        {
            if (context.Attempt > 1)
                return;
            lost.SetResult(await Record.ExceptionAsync(() => context.StepAsync("charge", async _ =>
            {
                await database.ExecuteAsync("UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL");
                return 1;
            }, token)));
        }));
        var id = await worker.EnqueueAsync(new NumberJob(7));
        Assert.IsType<LeaseLostException>(await lost.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, Cancellation));
        await EndedAsync(database, id, "completed");
        Assert.Equal(2, await database.ScalarAsync<int>("SELECT attempt FROM outbox.job_history"));
    }

    // What a killed process leaves is what is in the table: the next claim brings it.
    [Fact]
    public async Task A_step_outlives_its_worker_and_a_job_that_gave_up_and_is_retried()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var charged = 0;
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (_, context, token) =>
        {
            await context.StepAsync("charge", _ => Task.FromResult(Interlocked.Increment(ref charged)), token);
            switch (context.Attempt)
            {
                case 1:
                    // Rescued under it.
                    await database.ExecuteAsync("UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL");
                    break;
                case 2:
                    context.Dead("of no use");
                    break;
                case 3:
                    context.Cancel("nor this");
                    break;
            }

            Assert.True(context.TryGetStep("charge", out int result));
            Assert.Equal(1, result);
            Assert.False(context.TryGetStep("mail", out int _));
        }));
        JobAdmin admin = new(database.Operator);
        var id = await worker.EnqueueAsync(new NumberJob(7));
        await EndedAsync(database, id, "dead");
        Assert.Equal("1", await database.ScalarAsync<string>("SELECT steps->'charge'->>'result' FROM outbox.job_history"));
        Assert.True(await admin.RetryAsync(id, Cancellation));
        await EndedAsync(database, id, "cancelled");
        Assert.True(await admin.RetryAsync(id, Cancellation));
        await EndedAsync(database, id, "completed");
        Assert.Equal(1, charged);
    }

    [Fact]
    public async Task In_the_handlers_own_transaction_step_and_effect_are_one_commit()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE charges (id uuid, attempt integer)");
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            async (_, context, token) =>
            {
                if (!context.TryGetStep("charge", out string? receipt))
                {
                    await using var connection = await database.DataSource.OpenConnectionAsync(token);
                    await using var transaction = await connection.BeginTransactionAsync(token);
                    await using (var charge = new NpgsqlCommand("INSERT INTO charges VALUES ($1, $2)", connection, transaction) { Parameters = { new() { Value = context.JobId }, new() { Value = context.Attempt } } })
                        await charge.ExecuteNonQueryAsync(token);
                    await context.SaveStepAsync(transaction, "charge", $"receipt {context.Attempt}", token);
                    if (context.Attempt == 1)
                        throw new InvalidOperationException("before the commit");
                    await transaction.CommitAsync(token);
                    throw new InvalidOperationException("after the commit");
                }

                Assert.Equal("receipt 2", receipt);
            },
            AtOnce));
        var id = await worker.EnqueueAsync(new NumberJob(7));
        await EndedAsync(database, id, "completed");
        Assert.Equal(["2"], await database.TextsAsync("SELECT attempt::text FROM charges"));
    }

    [Fact]
    public async Task Steps_that_run_side_by_side_are_all_kept()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var runs = 0;
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            async (_, context, token) =>
            {
                var results = await Task.WhenAll(Enumerable.Range(1, 10).Select(n => context.StepAsync($"step-{n}", async _ =>
                {
                    Interlocked.Increment(ref runs);
                    await Task.Yield();
                    return n;
                }, token)));
                Assert.Equal(55, results.Sum());
                if (context.Attempt == 1)
                    throw new InvalidOperationException("again");
            },
            AtOnce));
        var id = await worker.EnqueueAsync(new NumberJob(7));
        await EndedAsync(database, id, "completed");
        Assert.Equal(10, runs);
    }

    [Fact]
    public async Task What_cannot_be_kept_fails_the_attempt_and_not_the_worker()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> refused = [];
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (_, context, token) =>
        {
            await RefusedAsync(() => context.StepAsync("Not a name", _ => Task.FromResult(1), token));
            await RefusedAsync(() => context.StepAsync("large", _ => Task.FromResult(new string('x', 70_000)), token));
            await RefusedAsync(() => context.StepAsync("nul", _ => Task.FromResult("a\0"), token));
            await context.StepAsync("half", _ => Task.FromResult(new string('x', 40_000)), token);
            await RefusedAsync(() => context.StepAsync("other-half", _ => Task.FromResult(new string('x', 40_000)), token));
            using var gone = new CancellationTokenSource();
            await gone.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => context.StepAsync("late", _ => Task.FromResult(1), gone.Token));
            Assert.Throws<ArgumentOutOfRangeException>(() => context.Progress(1.01));
            Assert.Throws<ArgumentOutOfRangeException>(() => context.Progress(double.NaN));
            Assert.Throws<InvalidJobException>(() => context.Progress(0, "a\0"));
        }));
        var id = await worker.EnqueueAsync(new NumberJob(7));
        await EndedAsync(database, id, "completed");
        Assert.Equal(4, refused.Count);
        Assert.Contains("Step name 'Not a name' cannot be used", refused.First(), StringComparison.Ordinal);
        Assert.Contains("Keep a key in them, not the data", refused.Last(), StringComparison.Ordinal);

        async Task RefusedAsync(Func<Task> step) => refused.Enqueue((await Assert.ThrowsAsync<InvalidJobException>(step)).Message);
    }

    [Fact]
    public async Task Results_are_encrypted_where_arguments_are()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var runs = 0;
        await using var worker = await WorkerHost.StartAsync(database, o =>
        {
            o.Encryption = new JobEncryption("k1", RandomNumberGenerator.GetBytes(32));
            o.Handle<NumberJob>(
                async (_, context, token) =>
                {
                    runs++;
                    Assert.Equal("canary", await context.StepAsync("charge", _ => Task.FromResult("canary"), token));
                    Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE jobs::text LIKE '%canary%' OR steps IS NULL"));
                    if (context.Attempt == 1)
                        throw new InvalidOperationException("again");
                },
                AtOnce);
        });
        var id = await worker.EnqueueAsync(new NumberJob(7));
        await EndedAsync(database, id, "completed");
        Assert.Equal(2, runs);
    }

    [Fact]
    public async Task Progress_can_be_read_while_the_job_runs()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobInspector inspector = new(database.Inspector);
        using var gate = new SemaphoreSlim(0);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (_, context, token) =>
        {
            context.Progress(0.25, "page 1 of 4");
            await gate.WaitAsync(token);
            context.Progress(0.5, new string('p', 199) + "\U0001F600");
            await gate.WaitAsync(token);
        }));
        await worker.EnqueueAsync(new NumberJob(7));
        await SaysAsync(0.25, "page 1 of 4");
        gate.Release();
        await SaysAsync(0.5, new string('p', 199));
        gate.Release();

        Task SaysAsync(double value, string text) => Eventually.TrueAsync(
            async () => (await inspector.RunningAsync(Cancellation)).Any(each => each.Progress == value && each.ProgressText == text), $"it says {value}");
    }

    [Fact]
    public async Task What_is_kept_in_the_handlers_transactions_counts_too()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (_, context, token) =>
        {
            await using var connection = await database.DataSource.OpenConnectionAsync(token);
            await using var transaction = await connection.BeginTransactionAsync(token);
            await context.SaveStepAsync(transaction, "half", new string('x', 40_000), token);
            await context.SaveStepAsync(transaction, "half", new string('y', 40_000), token);
            await Assert.ThrowsAsync<InvalidJobException>(() => context.SaveStepAsync(transaction, "other-half", new string('x', 40_000), token));
            await transaction.CommitAsync(token);
        }));
        await EndedAsync(database, await worker.EnqueueAsync(new NumberJob(7)), "completed");
    }

    [Theory]
    [InlineData("[1]")]
    [InlineData("{\"charge\": 5}")]
    [InlineData("{\"charge\": {\"result\": {\"a\": 1}}}")]
    public async Task Steps_that_another_program_wrote_fail_their_job_and_nothing_else(string steps)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync($"INSERT INTO outbox.jobs (id, kind, args, max_attempts, steps, progress) VALUES (gen_random_uuid(), 'number', '{{\"number\": 1}}', 1, '{steps}', '{{\"value\": \"x\"}}')");
        using var gate = new SemaphoreSlim(0);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (_, context, token) =>
        {
            await gate.WaitAsync(token);
            Assert.Equal(1, await context.StepAsync("charge", _ => Task.FromResult(1), token));
        }));
        var id = await worker.EnqueueAsync(new NumberJob(7));
        await Eventually.TrueAsync(async () => (await new JobInspector(database.Inspector).RunningAsync(Cancellation)).Count == 2, "both run, and can be looked at");
        gate.Release(2);
        await EndedAsync(database, id, "completed");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'dead' AND errors IS NOT NULL") == 1, "the other one is dead with a reason");
    }

    private static Task EndedAsync(ScratchDatabase database, Guid id, string state) => Eventually.TrueAsync(
        async () => await database.ScalarAsync<string?>($"SELECT state FROM outbox.job_history WHERE id = '{id}'") == state, $"it is {state}");

    private sealed record Receipt(int Number, string State);
}
