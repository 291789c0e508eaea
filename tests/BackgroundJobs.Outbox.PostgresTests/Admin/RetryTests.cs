using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

public sealed class RetryTests
{
    [Theory]
    [InlineData("dead")]
    [InlineData("cancelled")]
    public async Task A_job_that_gave_up_waits_again_with_its_id_attempt_and_errors_and_new_chances(string state)
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.FinishedAsync(state);
        var before = await database.Inspector.FindAsync(id);
        Assert.True(await database.Admin.RetryAsync(id));

        var job = await database.Inspector.FindAsync(id);
        Assert.Equal(JobState.Waiting, job!.State);
        Assert.Equal((21, 0, 0, 20, 3), (job.Attempt, job.Failures, job.Crashes, job.MaxAttempts, job.Priority));
        Assert.Equal(
            (before!.Kind, before.Queue, before.Args, before.Headers, before.TraceParent, before.Errors, before.CreatedAt),
            (job.Kind, job.Queue, job.Args, job.Headers, job.TraceParent, job.Errors, job.CreatedAt));
        Assert.True(job.RunAt > before.RunAt);
        Assert.Null(job.FinishedAt);
        Assert.Equal((1L, 0L), (await database.RowsAsync("jobs"), await database.RowsAsync("job_history")));
    }

    [Fact]
    public async Task A_job_that_waits_for_its_next_attempt_runs_at_once()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.RetryingAsync();
        Assert.True(await database.Admin.RetryAsync(id));
        var job = await database.Inspector.FindAsync(id);
        Assert.Equal((JobState.Waiting, 3, 2), (job!.State, job.Attempt, job.Failures));
        Assert.False(await database.Admin.RetryAsync(id));
    }

    [Fact]
    public async Task What_runs_waits_or_was_done_is_left_alone()
    {
        await using var database = await AdminDatabase.CreateAsync();
        Guid[] others =
        [
            await database.WaitingAsync(),
            await database.WaitingAsync(runAt: "now() + interval '1 hour'"),
            await database.RunningAsync(),
            await database.FinishedAsync("completed"),
        ];
        foreach (var id in others)
        {
            var state = await database.StateAsync(id);
            Assert.False(await database.Admin.RetryAsync(id));
            Assert.Equal(state, await database.StateAsync(id));
        }

        Assert.False(await database.Admin.RetryAsync(Guid.NewGuid()));
        Assert.Equal(0, await database.Admin.RetryAsync(new JobFilter()));
    }

    [Fact]
    public async Task An_id_that_waits_again_already_stays_in_the_history()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.FinishedAsync("dead");
        await database.Scratch.ExecuteAsync($"INSERT INTO outbox.jobs (id, kind, args) VALUES ('{id}', 'a_kind', '{{}}')");
        Assert.False(await database.Admin.RetryAsync(id));
        Assert.Equal((1L, 1L), (await database.RowsAsync("jobs"), await database.RowsAsync("job_history")));
    }

    [Fact]
    public async Task Workers_hear_of_it_with_queue_and_due_time_after_the_commit()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.FinishedAsync("dead");
        var (notified, raised) = await database.HearAsync(() => database.Admin.RetryAsync(id));
        var job = await database.Inspector.FindAsync(id);
        Assert.Equal([new JobHint("mails", job!.RunAt)], raised);
        Assert.Equal([new JobHint("mails", job.RunAt).ToPayload()], notified);
    }

    [Fact]
    public async Task By_filter_only_what_it_means_and_as_many_as_were_counted()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var slow = await database.FinishedAsync("dead", "The server is too SLOW, it's 100 % busy");
        var other = await database.FinishedAsync("dead", "no such table");
        var old = await database.FinishedAsync("dead", "slow", finishedAt: "now() - interval '1 hour'");
        var cancelled = await database.FinishedAsync("cancelled", "slow");
        var foreign = await database.FinishedAsync("dead", "slow", kind: "another_kind");
        var filter = new JobFilter
        {
            States = [JobState.Dead],
            Kind = "a_kind",
            Queue = "mails",
            ErrorContains = "slow",
            FinishedAfter = TimeProvider.System.GetUtcNow().AddMinutes(-30),
            CreatedBefore = TimeProvider.System.GetUtcNow(),
        };
        Assert.Equal(1, await database.Admin.CountAsync(filter));
        Assert.Equal(1, await database.Admin.RetryAsync(filter));
        Assert.Equal(JobState.Waiting, await database.StateAsync(slow));
        foreach (var left in new[] { other, old, foreign })
            Assert.Equal(JobState.Dead, await database.StateAsync(left));
        Assert.Equal(JobState.Cancelled, await database.StateAsync(cancelled));
        Assert.Equal(0, await database.Admin.CountAsync(filter));
    }

    [Fact]
    public async Task Two_operators_at_once_move_each_of_many_jobs_once_in_batches()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await database.Scratch.ExecuteAsync("""
            INSERT INTO outbox.job_history (id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, args)
            SELECT outbox.new_job_id(), now() - n * interval '10 s', now(), now(), 5, 2, 20, 20, 0, 'dead', 'q' || n % 3, 'a_kind', '{}'
            FROM generate_series(1, 4500) AS n
            """);
        Assert.Equal(4500, await database.Admin.CountAsync(new JobFilter { States = [JobState.Dead] }));
        var moved = await Task.WhenAll(Enumerable.Range(0, 2).Select(_ => Task.Run(() => database.Admin.RetryAsync(new JobFilter { Kind = "a_kind" }))));
        Assert.Equal(4500, moved.Sum());
        Assert.Equal((4500L, 0L), (await database.RowsAsync("jobs", "attempt = 5 AND failures = 0"), await database.RowsAsync("job_history")));
    }
}
