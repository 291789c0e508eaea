using System.Collections.Concurrent;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class OutcomeTests
{
    [Fact]
    public async Task A_job_that_returns_is_completed_and_remembered()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        var id = await worker.EnqueueAsync(new NumberJob(7), new() { Headers = new Dictionary<string, string> { ["tenant"] = "a" } });
        await StateAsync(database, id, "completed");
        Assert.Equal("1|0|{\"number\": 7}|{\"tenant\": \"a\"}", await database.ScalarAsync<string>(
            $"SELECT concat_ws('|', attempt, failures, args, headers) FROM outbox.job_history WHERE id = '{id}'"));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fact]
    public async Task A_failure_is_retried_after_its_delay_and_its_errors_are_kept()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            (_, context, _) => context.Attempt < 3 ? throw new InvalidOperationException($"no {context.Attempt}\0!") : Task.CompletedTask,
            kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(50))));
        var id = await worker.EnqueueAsync(new NumberJob(1));
        await StateAsync(database, id, "completed");
        Assert.Equal(
            "3|2|no 1!|no 2!|System.InvalidOperationException",
            await database.ScalarAsync<string>(
                $"SELECT concat_ws('|', attempt, failures, errors->0->>'message', errors->1->>'message', errors->1->>'type') FROM outbox.job_history WHERE id = '{id}'"));
    }

    [Fault("W38", "failures without end", "the last five errors are kept")]
    [Fact]
    public async Task A_job_that_fails_as_often_as_it_may_is_dead_and_keeps_its_last_five_errors()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            (_, context, _) => throw new InvalidOperationException($"no {context.Attempt}"), kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.Zero)));
        var id = await worker.EnqueueAsync(new NumberJob(1), new() { MaxAttempts = 7 });
        await StateAsync(database, id, "dead");
        Assert.Equal("7|7|5|no 3|no 7", await database.ScalarAsync<string>(
            $"SELECT concat_ws('|', attempt, failures, jsonb_array_length(errors), errors->0->>'message', errors->4->>'message') FROM outbox.job_history WHERE id = '{id}'"));
        Assert.Contains("is dead", worker.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_rule_for_an_exception_decides_before_the_kinds_policy()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            (job, _, _) => throw (job.Number == 1 ? new ArgumentException("never") : new NotSupportedException("not needed")),
            kind => kind.Retry = RetryPolicy.Default.When<ArgumentException>(RetryPolicy.None).CancelWhen<NotSupportedException>()));
        var dead = await worker.EnqueueAsync(new NumberJob(1));
        var cancelled = await worker.EnqueueAsync(new NumberJob(2));
        await StateAsync(database, dead, "dead");
        await StateAsync(database, cancelled, "cancelled");
    }

    [Fact]
    public async Task Snooze_runs_again_later_and_is_no_failure()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, context, _) =>
        {
            if (context.Attempt == 1)
                context.Snooze(TimeSpan.FromMilliseconds(300));
            return Task.CompletedTask;
        }));
        var id = await worker.EnqueueAsync(new NumberJob(1));
        await StateAsync(database, id, "completed");
        Assert.Equal("2|0|t", await database.ScalarAsync<string>(
            $"SELECT concat_ws('|', attempt, failures, claimed_at - created_at > interval '290 ms') FROM outbox.job_history WHERE id = '{id}'"));
    }

    [Fact]
    public async Task A_handler_can_cancel_its_job_or_end_it_as_dead_with_a_reason()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((job, context, _) =>
        {
            if (job.Number == 1)
                context.Cancel("the order is gone");
            else
                context.Dead("the address does not exist");
            return Task.CompletedTask;
        }));
        var cancelled = await worker.EnqueueAsync(new NumberJob(1));
        var dead = await worker.EnqueueAsync(new NumberJob(2));
        await StateAsync(database, cancelled, "cancelled");
        await StateAsync(database, dead, "dead");
        Assert.Equal("the order is gone", await ErrorAsync(database, cancelled));
        Assert.Equal("the address does not exist", await ErrorAsync(database, dead));
    }

    [Fault("W29", "arguments that do not deserialise", "an ordinary failure, then dead, with the path")]
    [Fact]
    public async Task Arguments_that_do_not_fit_their_type_are_an_ordinary_failure_with_a_reason()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(
            database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask, kind => kind.Retry = RetryPolicy.None));
        var missing = await database.ScalarAsync<Guid>("SELECT outbox.enqueue('number', '{}')");
        var wrong = await database.ScalarAsync<Guid>("SELECT outbox.enqueue('number', '{\"number\": \"seven\"}')");
        await StateAsync(database, missing, "dead");
        await StateAsync(database, wrong, "dead");
        Assert.Contains("number", await ErrorAsync(database, missing), StringComparison.Ordinal);
        Assert.Contains("$.number", await ErrorAsync(database, wrong), StringComparison.Ordinal);
    }

    [Fact]
    public async Task History_is_kept_as_the_kind_says()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o
            .Handle<NumberJob>((_, _, _) => Task.CompletedTask, kind => kind.History = HistoryPolicy.None)
            .Handle<OtherJob>((_, _, _) => Task.CompletedTask, kind => kind.History = HistoryPolicy.WithoutArgs));
        await worker.EnqueueAsync(new NumberJob(1));
        var bare = await worker.EnqueueAsync(new OtherJob("secret"));
        await StateAsync(database, bare, "completed");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "both are gone");
        Assert.Equal("other|t", await database.ScalarAsync<string>("SELECT string_agg(concat_ws('|', kind, args IS NULL), ',') FROM outbox.job_history"));
    }

    [Fact]
    public async Task Each_attempt_has_a_scope_of_its_own_that_ends_with_it()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<Scoped> scopes = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, context, _) =>
            {
                scopes.Enqueue((Scoped)context.Services.GetService(typeof(Scoped))!);
                return context.Attempt == 1 ? throw new InvalidOperationException("again") : Task.CompletedTask;
            }, kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.Zero)),
            services: s => Microsoft.Extensions.DependencyInjection.ServiceCollectionServiceExtensions.AddScoped<Scoped>(s));
        var id = await worker.EnqueueAsync(new NumberJob(1));
        await StateAsync(database, id, "completed");
        Assert.Equal(2, scopes.Distinct().Count());
        Assert.All(scopes, scope => Assert.True(scope.IsDisposed));
    }

    private static Task StateAsync(ScratchDatabase database, Guid id, string state) => Eventually.TrueAsync(
        async () => await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{id}'") == state, $"job {id} is {state}");

    private static Task<string> ErrorAsync(ScratchDatabase database, Guid id) =>
        database.ScalarAsync<string>($"SELECT errors->-1->>'message' FROM outbox.all_jobs WHERE id = '{id}'");

    private sealed class Scoped : IDisposable
    {
        public bool IsDisposed { get; private set; }

        public void Dispose() => IsDisposed = true;
    }
}
