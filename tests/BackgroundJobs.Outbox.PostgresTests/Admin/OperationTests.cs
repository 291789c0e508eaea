using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

public sealed class OperationTests
{
    [Fault("X14", "operators retry, cancel, delete, pause and resume", "each leaves who, when and what, in the transaction that did it; what changed nothing leaves nothing")]
    [Fact]
    public async Task X14_what_an_operator_did_is_kept()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.Enqueuer);
        List<NewJob> jobs = [.. Enumerable.Range(0, 4).Select(n => NewJob.Create(new NumberJob(n), new() { Delay = TimeSpan.FromHours(1) }))];
        await queue.EnqueueAsync(jobs, TestContext.Current.CancellationToken);
        JobAdmin admin = new(database.Operator);
        var token = TestContext.Current.CancellationToken;
        await admin.CancelAsync(new JobFilter { Ids = [jobs[0].Id, jobs[1].Id] }, "by mistake", token);
        Assert.True(await admin.RetryAsync(jobs[0].Id, token));
        Assert.False(await admin.RetryAsync(jobs[3].Id, token));
        Assert.Equal(1, await admin.DeleteAsync(new JobFilter { Kind = "number", States = [JobState.Cancelled] }, token));
        await admin.PauseQueueAsync("default", "a fire", cancellationToken: token);
        Assert.True(await admin.ResumeQueueAsync("default", token));
        Assert.False(await admin.ResumeQueueAsync("default", token));

        var operations = await new JobInspector(database.Inspector).OperationsAsync(token);
        Assert.Equal(
            [
                ("resume", 0, "{\"queue\": \"default\"}"),
                ("pause", 0, "{\"by\": null, \"queue\": \"default\", \"reason\": \"a fire\"}"),
                ("delete", 1, "{\"kind\": \"number\", \"states\": [\"Cancelled\"]}"),
                ("retry", 1, $"{{\"ids\": [\"{jobs[0].Id}\"]}}"),
                ("cancel", 2, $"{{\"ids\": [\"{jobs[0].Id}\", \"{jobs[1].Id}\"], \"reason\": \"by mistake\"}}"),
            ],
            operations.Select(each => (each.Verb, each.Jobs, each.What)));
        Assert.All(operations, each => Assert.Equal(TestRoles.Operator, each.Actor));

        await database.ExecuteAsync("UPDATE outbox.operations SET at = at - interval '91 days' WHERE verb <> 'retry'");
        await database.ExecuteAsync("SELECT outbox.maintain_history(1, interval '14 days')");
        Assert.Equal("retry", Assert.Single(await new JobInspector(database.Inspector).OperationsAsync(token)).Verb);
    }
}
