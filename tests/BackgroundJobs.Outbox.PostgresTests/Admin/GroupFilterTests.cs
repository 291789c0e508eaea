using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

public sealed class GroupFilterTests
{
    [Fact]
    public async Task Every_verb_takes_the_jobs_of_a_group_and_leaves_all_others()
    {
        await using var database = await AdminDatabase.CreateAsync();
        JobFilter filter = new() { Group = "tenant 7" };
        List<Guid> mine = [await database.WaitingAsync(), await database.WaitingAsync(queue: "mails"), await database.RetryingAsync(), await database.RunningAsync()];
        List<Guid> others = [await database.WaitingAsync(), await database.RetryingAsync(), await database.RunningAsync(), await database.WaitingAsync()];
        await GroupAsync("tenant 7", mine);
        await GroupAsync("tenant 8", others[..3]);

        Assert.Equal(4, await database.Admin.CountAsync(filter));
        Assert.Equal(1, await database.Admin.RetryAsync(filter));
        Assert.Equal(new CancelledJobs(3, 1), await database.Admin.CancelAsync(filter));
        Assert.Equal(3, await database.Admin.RetryAsync(filter with { States = [JobState.Cancelled] }));
        Assert.Equal(3, await database.Admin.DeleteAsync(filter));
        await database.Scratch.ExecuteAsync($"UPDATE outbox.job_history SET job_group = 'tenant 7' WHERE id = '{await database.FinishedAsync("dead")}'");
        var dead = await database.FinishedAsync("dead");
        Assert.Equal(1, await database.Admin.DeleteAsync(filter));

        Assert.Equal(JobState.Dead, await database.StateAsync(dead));
        Assert.Equal(
            [JobState.Waiting, JobState.Retrying, JobState.Running, JobState.Waiting],
            await Task.WhenAll(others.Select(async id => (await database.StateAsync(id))!.Value)));
        Assert.Equal(0, await database.RowsAsync("jobs", $"cancel_requested_at IS NOT NULL AND id <> '{mine[3]}'"));
        Assert.Equal("tenant 7", (await database.Inspector.FindAsync(mine[3]))!.JobGroup);
        Assert.Equal(0, await database.RowsAsync("operations", "what ->> 'group' IS DISTINCT FROM 'tenant 7'"));
        Assert.Contains("the filter's group holds a NUL", (await Assert.ThrowsAsync<OutboxException>(
            () => database.Admin.CountAsync(new() { Group = "\0" }))).Message, StringComparison.Ordinal);

        Task GroupAsync(string group, IEnumerable<Guid> ids) =>
            database.Scratch.ExecuteAsync($"UPDATE outbox.jobs SET job_group = '{group}' WHERE id IN ('{string.Join("', '", ids)}')");
    }
}
