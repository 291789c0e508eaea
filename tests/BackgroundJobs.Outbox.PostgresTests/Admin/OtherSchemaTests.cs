using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

public sealed class OtherSchemaTests
{
    [Fact]
    public async Task All_verbs_and_queries_work_in_a_schema_with_a_reserved_words_name()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var options = new OutboxOptions { Schema = "order" };
        await new Migrator(database.DataSource, options).MigrateAsync();
        var admin = new JobAdmin(database.Operator, options);
        var inspector = new JobInspector(database.Inspector, options);
        var id = await database.ScalarAsync<Guid>("SELECT \"order\".enqueue('a_kind')");

        Assert.Equal(1, await admin.CountAsync(JobFilter.Everything));
        Assert.True(await admin.CancelAsync(id));
        Assert.Equal(JobState.Cancelled, Assert.Single(await inspector.DeadAsync()).State);
        Assert.Equal(1, (await inspector.ThroughputAsync()).Sum(minute => minute.Cancelled));
        Assert.Empty(await inspector.FailingKindsAsync());
        Assert.True(await admin.RetryAsync(id));
        Assert.Equal(id, Assert.Single(await inspector.OldestWaitingAsync()).Id);
        Assert.Empty(await inspector.RunningAsync());
        Assert.Empty(await inspector.RetryingAsync());
        Assert.Empty(await inspector.WorkersAsync());
        await admin.PauseQueueAsync("default");
        Assert.NotNull(Assert.Single(await inspector.QueuesAsync()).PausedAt);
        Assert.True(await admin.ResumeQueueAsync("default"));
        Assert.Contains(await inspector.TableHealthAsync(), table => table.TableName == "jobs");
        Assert.Equal((JobState.Waiting, 1L), Assert.Single((await inspector.CountsAsync()).Select(count => (count.State, count.Jobs))));
        await admin.SetScheduleAsync(new() { Name = "s", Cron = "@daily" }, new NumberJob(1));
        var ran = await admin.RunScheduleAsync("s");
        Assert.Equal(("s", ran, "waiting"), Assert.Single((await inspector.SchedulesAsync()).Select(each => (each.Schedule, each.LastJobId, each.LastJobState!))));
        Assert.True(await admin.DeleteScheduleAsync("s"));
        Assert.True(await admin.DeleteAsync(id));
        Assert.Null(await inspector.FindAsync(id));
    }
}
