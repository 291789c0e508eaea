using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

public sealed class CancelTests
{
    [Fact]
    public async Task A_waiting_job_is_in_the_history_at_once_with_the_reason()
    {
        await using var database = await AdminDatabase.CreateAsync();
        foreach (var id in new[] { await database.WaitingAsync(), await database.WaitingAsync(runAt: "now() + interval '1 day'"), await database.RetryingAsync() })
        {
            Assert.True(await database.Admin.CancelAsync(id, "wrong tenant\0"));
            var job = await database.Inspector.FindAsync(id);
            Assert.Equal(JobState.Cancelled, job!.State);
            Assert.NotNull(job.FinishedAt);
            Assert.Contains("\"message\": \"wrong tenant\"", job.Errors, StringComparison.Ordinal);
            Assert.False(await database.Admin.CancelAsync(id));
        }

        Assert.Equal(0, await database.RowsAsync("jobs"));
    }

    [Fact]
    public async Task A_running_job_keeps_its_lease_and_its_worker_is_told()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.RunningAsync();
        var (notified, raised) = await database.HearAsync(async () => Assert.True(await database.Admin.CancelAsync(id)));
        var job = await database.Inspector.FindAsync(id);
        Assert.Equal(JobState.Running, job!.State);
        Assert.NotNull(job.CancelRequestedAt);
        Assert.Equal(["cancel"], notified);
        Assert.Empty(raised);
        Assert.False(JobHint.TryParse("cancel", out _));
        Assert.False(await database.Admin.CancelAsync(id));
    }

    [Fact]
    public async Task A_job_that_is_being_claimed_at_that_moment_does_not_slip_through()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.WaitingAsync();
        var other = await database.WaitingAsync();
        await using var worker = await database.Scratch.DataSource.OpenConnectionAsync();
        await using var claim = await worker.BeginTransactionAsync();
        await using (var update = new NpgsqlCommand(
            $"UPDATE outbox.jobs SET lease_token = gen_random_uuid(), worker_id = gen_random_uuid(), claimed_at = now(), attempt = 1 WHERE id = '{id}'", worker, claim))
            await update.ExecuteNonQueryAsync();

        var cancel = Task.Run(() => database.Admin.CancelAsync(JobFilter.Everything));
        await UntilItWaitsAsync(database);
        Assert.Equal(JobState.Cancelled, await database.StateAsync(other));
        await claim.CommitAsync();
        Assert.Equal(new CancelledJobs(1, 1), await cancel);
        Assert.NotNull((await database.Inspector.FindAsync(id))!.CancelRequestedAt);
        Assert.Equal(JobState.Running, await database.StateAsync(id));
    }

    [Fact]
    public async Task A_job_whose_claim_is_rolled_back_at_that_moment_is_cancelled_all_the_same()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.WaitingAsync();
        await using var worker = await database.Scratch.DataSource.OpenConnectionAsync();
        await using var claim = await worker.BeginTransactionAsync();
        await using (var update = new NpgsqlCommand($"SELECT FROM outbox.jobs WHERE id = '{id}' FOR NO KEY UPDATE", worker, claim))
            await update.ExecuteNonQueryAsync();

        var cancel = Task.Run(() => database.Admin.CancelAsync(new JobFilter { Kind = "a_kind" }));
        await UntilItWaitsAsync(database);
        await claim.RollbackAsync();
        Assert.Equal(new CancelledJobs(1, 0), await cancel);
        Assert.Equal(JobState.Cancelled, await database.StateAsync(id));
    }

    [Fact]
    public async Task A_job_that_is_being_given_back_at_that_moment_is_cancelled_all_the_same()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.RunningAsync();
        await using var rescuer = await database.Scratch.DataSource.OpenConnectionAsync();
        await using var rescue = await rescuer.BeginTransactionAsync();
        await using (var update = new NpgsqlCommand(
            $"UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL WHERE id = '{id}'", rescuer, rescue))
            await update.ExecuteNonQueryAsync();

        var cancel = Task.Run(() => database.Admin.CancelAsync(JobFilter.Everything));
        await UntilItWaitsAsync(database);
        await rescue.CommitAsync();
        Assert.Equal(new CancelledJobs(1, 0), await cancel);
        Assert.Equal(JobState.Cancelled, await database.StateAsync(id));
    }

    [Fact]
    public async Task A_handlers_own_open_transaction_is_not_waited_for_long()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var ending = await database.RunningAsync();
        var running = await database.RunningAsync();
        await using var handler = await database.Scratch.DataSource.OpenConnectionAsync();
        await using var transaction = await handler.BeginTransactionAsync();
        await using (var complete = new NpgsqlCommand($"DELETE FROM outbox.jobs WHERE id = '{ending}'", handler, transaction))
            await complete.ExecuteNonQueryAsync();

        Assert.Equal(new CancelledJobs(0, 1), await database.Admin.CancelAsync(new JobFilter { States = [JobState.Running] }).WaitAsync(TimeSpan.FromSeconds(10)));
        Assert.NotNull((await database.Inspector.FindAsync(running))!.CancelRequestedAt);
    }

    [Fact]
    public async Task By_filter_the_waiting_end_the_running_are_asked_and_the_others_stay()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await database.Scratch.ExecuteAsync("INSERT INTO outbox.jobs (id, kind, args) SELECT outbox.new_job_id(), 'many', '{}' FROM generate_series(1, 2500)");
        await database.RunningAsync("many");
        await database.RunningAsync("many");
        var other = await database.WaitingAsync();
        await database.FinishedAsync("completed", kind: "many");
        Assert.Equal(2503, await database.Admin.CountAsync(new JobFilter { Kind = "many" }));
        Assert.Equal(new CancelledJobs(2500, 2), await database.Admin.CancelAsync(new JobFilter { Kind = "many" }, "a fire"));
        Assert.Equal(2500, await database.RowsAsync("job_history", "state = 'cancelled'"));
        Assert.Equal(JobState.Waiting, await database.StateAsync(other));
        Assert.Equal(new CancelledJobs(0, 0), await database.Admin.CancelAsync(new JobFilter { Kind = "many" }));
    }

    [Fact]
    public async Task A_running_job_may_be_left_out_by_the_states_of_the_filter()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var running = await database.RunningAsync();
        await database.WaitingAsync();
        Assert.Equal(new CancelledJobs(1, 0), await database.Admin.CancelAsync(new JobFilter { States = [JobState.Waiting] }));
        Assert.Null((await database.Inspector.FindAsync(running))!.CancelRequestedAt);
    }

    [Fact]
    public async Task An_empty_filter_is_refused_unless_everything_is_said()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.WaitingAsync();
        var error = await Assert.ThrowsAsync<OutboxException>(() => database.Admin.CancelAsync(new JobFilter()));
        Assert.Contains("JobFilter.Everything", error.Message, StringComparison.Ordinal);
        Assert.Equal(JobState.Waiting, await database.StateAsync(id));
        Assert.Equal(new CancelledJobs(1, 0), await database.Admin.CancelAsync(JobFilter.Everything));
    }

    private static async Task UntilItWaitsAsync(AdminDatabase database)
    {
        for (var attempt = 0; attempt < 200; attempt++)
        {
            if (await database.Scratch.ScalarAsync<long>("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0)
                return;
            await Task.Delay(TimeSpan.FromMilliseconds(25), TimeProvider.System);
        }

        Assert.Fail("The cancel did not wait for the claim.");
    }
}
