using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

public sealed class PauseTests
{
    [Fact]
    public async Task A_paused_queue_is_listed_with_who_and_why_until_it_is_resumed()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await database.Admin.PauseQueueAsync("mails", "the provider is down", "ops");
        await database.Admin.PauseQueueAsync("reports");
        var paused = await database.Admin.PausedQueuesAsync();
        Assert.Equal(["mails", "reports"], paused.Select(queue => queue.Queue));
        Assert.Equal(("ops", "the provider is down"), (paused[0].PausedBy, paused[0].PauseReason));
        Assert.Equal((TestRoles.Operator, null), (paused[1].PausedBy, paused[1].PauseReason));

        await database.Admin.PauseQueueAsync("mails", "still down", "ops 2");
        var again = (await database.Admin.PausedQueuesAsync())[0];
        Assert.Equal((paused[0].PausedAt, "still down", "ops 2"), (again.PausedAt, again.PauseReason, again.PausedBy));

        Assert.True(await database.Admin.ResumeQueueAsync("mails"));
        Assert.False(await database.Admin.ResumeQueueAsync("mails"));
        Assert.False(await database.Admin.ResumeQueueAsync("never_paused"));
        Assert.Equal("reports", Assert.Single(await database.Admin.PausedQueuesAsync()).Queue);
    }

    [Fact]
    public async Task Workers_hear_of_a_resume_with_the_oldest_job_that_waited()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await database.WaitingAsync(queue: "mails", runAt: "now() - interval '1 minute'");
        var oldest = await database.WaitingAsync(queue: "mails", runAt: "now() - interval '1 hour'");
        await database.Scratch.ExecuteAsync($"UPDATE outbox.jobs SET priority = 4 WHERE id = '{oldest}'");
        await database.Admin.PauseQueueAsync("mails");
        var (notified, raised) = await database.HearAsync(() => database.Admin.ResumeQueueAsync("mails"));
        var hint = new JobHint("mails", (await database.Inspector.FindAsync(oldest))!.RunAt);
        Assert.Equal([hint], raised);
        Assert.Equal([hint.ToPayload()], notified);
    }

    [Fact]
    public async Task A_name_that_no_queue_can_have_is_refused()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await Assert.ThrowsAsync<InvalidJobException>(() => database.Admin.PauseQueueAsync("Bad Name"));
        await Assert.ThrowsAsync<InvalidJobException>(() => database.Admin.ResumeQueueAsync(""));
    }

    [Fact]
    public async Task A_database_without_our_schema_is_told()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var admin = new JobAdmin(database.Operator);
        await Assert.ThrowsAsync<OutboxSchemaException>(() => admin.CountAsync(JobFilter.Everything));
        await Assert.ThrowsAsync<OutboxSchemaException>(() => admin.RetryAsync(Guid.NewGuid()));
        await Assert.ThrowsAsync<OutboxSchemaException>(() => admin.PausedQueuesAsync());
        await Assert.ThrowsAsync<OutboxSchemaException>(() => new JobInspector(database.Inspector).CountsAsync());
    }

    [Fault("P12", "the same, for operators", "every verb and query works")]
    [Fact]
    public async Task Through_a_transaction_pooler_all_verbs_and_queries_work()
    {
        await using var database = await AdminDatabase.CreateAsync();
        await using var bouncer = await PgBouncer.StartAsync(TestRoles.As(TestRoles.Operator, database.Scratch.AdminConnectionString));
        await using var source = Npgsql.NpgsqlDataSource.Create(bouncer.ConnectionString);
        var admin = new JobAdmin(source);
        var inspector = new JobInspector(source);
        var dead = await database.FinishedAsync("dead");
        var waiting = await database.WaitingAsync();
        var running = await database.RunningAsync();

        Assert.True(await admin.RetryAsync(dead));
        Assert.True(await admin.CancelAsync(waiting));
        Assert.True(await admin.CancelAsync(running));
        Assert.True(await admin.DeleteAsync(waiting));
        await admin.PauseQueueAsync("mails");
        Assert.Single(await admin.PausedQueuesAsync());
        Assert.True(await admin.ResumeQueueAsync("mails"));

        Assert.Equal(2, (await inspector.CountsAsync()).Sum(count => count.Jobs));
        Assert.Equal(dead, Assert.Single(await inspector.OldestWaitingAsync()).Id);
        Assert.Equal(running, Assert.Single(await inspector.RunningAsync()).Id);
        Assert.NotEmpty(await inspector.StoryAsync(dead));
        Assert.NotNull(await inspector.FindAsync(dead));
        Assert.NotEmpty(await inspector.TableHealthAsync());
        // The story's setting and the files' timeouts end with their transactions.
        Assert.NotEqual("5s", await Scalar(source, "SHOW statement_timeout"));
    }

    private static async Task<string?> Scalar(Npgsql.NpgsqlDataSource source, string sql)
    {
        await using var command = source.CreateCommand(sql);
        return (string?)await command.ExecuteScalarAsync();
    }
}
