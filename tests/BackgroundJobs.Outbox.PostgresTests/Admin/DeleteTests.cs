using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

public sealed class DeleteTests
{
    [Fact]
    public async Task What_waits_or_has_finished_is_gone_without_a_trace()
    {
        await using var database = await AdminDatabase.CreateAsync();
        Guid[] ids =
        [
            await database.WaitingAsync(),
            await database.WaitingAsync(runAt: "now() + interval '1 hour'"),
            await database.RetryingAsync(),
            await database.FinishedAsync("completed"),
            await database.FinishedAsync("dead"),
            await database.FinishedAsync("cancelled"),
        ];
        foreach (var id in ids)
        {
            Assert.True(await database.Admin.DeleteAsync(id));
            Assert.Null(await database.StateAsync(id));
            Assert.False(await database.Admin.DeleteAsync(id));
        }
    }

    [Fact]
    public async Task A_running_job_is_refused_with_what_to_do()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var id = await database.RunningAsync();
        var error = await Assert.ThrowsAsync<OutboxException>(() => database.Admin.DeleteAsync(id));
        Assert.Contains($"Job {id} cannot be deleted", error.Message, StringComparison.Ordinal);
        Assert.Contains("Cancel it first", error.Message, StringComparison.Ordinal);
        error = await Assert.ThrowsAsync<OutboxException>(() => database.Admin.DeleteAsync(new JobFilter { States = [JobState.Running] }));
        Assert.Contains("Cancel them first", error.Message, StringComparison.Ordinal);
        Assert.Equal(JobState.Running, await database.StateAsync(id));
    }

    [Fact]
    public async Task By_filter_in_batches_and_running_ones_stay()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await database.Scratch.ExecuteAsync("INSERT INTO outbox.jobs (id, kind, args) SELECT outbox.new_job_id(), 'many', '{}' FROM generate_series(1, 2100)");
        await database.FinishedAsync("dead", kind: "many");
        var running = await database.RunningAsync("many");
        var other = await database.FinishedAsync("dead");
        Assert.Equal(2101, await database.Admin.DeleteAsync(new JobFilter { Kind = "many" }));
        Assert.Equal(JobState.Running, await database.StateAsync(running));
        Assert.Equal(JobState.Dead, await database.StateAsync(other));
    }

    [Fact]
    public async Task Finished_bounds_mean_no_unfinished_job()
    {
        await using var database = await AdminDatabase.CreateAsync();
        var waiting = await database.WaitingAsync();
        var old = await database.FinishedAsync("completed", finishedAt: "now() - interval '2 hours'");
        var fresh = await database.FinishedAsync("completed");
        var filter = new JobFilter { FinishedBefore = TimeProvider.System.GetUtcNow().AddHours(-1) };
        Assert.Equal(1, await database.Admin.CountAsync(filter));
        Assert.Equal(1, await database.Admin.DeleteAsync(filter));
        Assert.Null(await database.StateAsync(old));
        Assert.NotNull(await database.StateAsync(fresh));
        Assert.NotNull(await database.StateAsync(waiting));
    }

    [Fact]
    public async Task An_empty_filter_is_refused_unless_everything_is_said()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await database.WaitingAsync();
        await database.FinishedAsync("completed");
        await Assert.ThrowsAsync<OutboxException>(() => database.Admin.DeleteAsync(new JobFilter()));
        Assert.Equal(2, await database.Admin.CountAsync(JobFilter.Everything));
        Assert.Equal(2, await database.Admin.DeleteAsync(JobFilter.Everything));
    }

    [Fact]
    public async Task An_empty_list_of_ids_means_no_job()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await database.WaitingAsync();
        Assert.Equal(0, await database.Admin.CountAsync(new JobFilter { Ids = [] }));
        Assert.Equal(0, await database.Admin.DeleteAsync(new JobFilter { Ids = [] }));
    }
}
