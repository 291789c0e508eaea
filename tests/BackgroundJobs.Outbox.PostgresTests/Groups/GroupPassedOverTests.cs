using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// What a claim could not take of a group is there for the next one, though that looks for nothing new.
public sealed class GroupPassedOverTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task A_job_of_another_kind_is_not_passed_over_for_good(int at)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var (queue, worker) = await BeginAsync(database);
        await queue.EnqueueAsync(
            Enumerable.Range(1, 4).Select(n => n == at ? NewJob.Create(new OtherJob("x"), In(n)) : NewJob.Create(new NumberJob(n), In(n))), Cancellation);

        Assert.Equal(3, (await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]) with { InTurn = true })).Count);
        Assert.Single(await NothingNewAsync(queue, worker, "number", "other"));
    }

    [Fact]
    public async Task A_suspect_is_not_passed_over_for_good()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var (queue, worker) = await BeginAsync(database);
        await queue.EnqueueAsync(Enumerable.Range(1, 3).Select(n => NewJob.Create(new NumberJob(n), In(n))), Cancellation);
        await database.ExecuteAsync("UPDATE outbox.jobs SET crashes = 2 WHERE args = '{\"number\": 2}'");

        Assert.Equal(2, (await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]) with { InTurn = true })).Count);
        await database.ExecuteAsync("UPDATE outbox.jobs SET crashes = 0 WHERE crashes = 2");
        Assert.Single(await NothingNewAsync(queue, worker, "number"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task A_job_that_somebody_has_locked_is_not_passed_over_for_good(int at)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var (queue, worker) = await BeginAsync(database);
        await queue.EnqueueAsync(Enumerable.Range(1, 3).Select(n => NewJob.Create(new NumberJob(n), In(n))), Cancellation);

        await using (var connection = await database.Admin.OpenConnectionAsync(Cancellation))
        {
            await using var transaction = await connection.BeginTransactionAsync(Cancellation);
            await using var look = connection.CreateCommand();
            look.CommandText = $"SELECT FROM outbox.jobs WHERE args = '{{\"number\": {at}}}' FOR UPDATE";
            await look.ExecuteNonQueryAsync(Cancellation);
            Assert.Equal(2, (await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]) with { InTurn = true })).Count);
        }

        Assert.Single(await NothingNewAsync(queue, worker, "number"));
    }

    // Of one group, each behind the one before, the first one by its priority.
    private static EnqueueOptions In(int number) => new() { Group = "a", Priority = number == 1 ? 1 : 2 };

    private static async Task<(JobQueue Queue, Guid Worker)> BeginAsync(ScratchDatabase database)
    {
        await new JobAdmin(database.Operator).SetLimitsAsync("default", new() { GroupConcurrency = 100 }, Cancellation);
        return (new(database.DataSource), await Workers.RegisterAsync(database));
    }

    private static Task<List<ClaimedJob>> NothingNewAsync(JobQueue queue, Guid worker, params string[] kinds) => queue.ClaimAsync(
        new ClaimRequest("default", 10, worker, kinds, [.. Enumerable.Repeat(DateTime.MaxValue, JobDefaults.LastPriority)], new Guid[JobDefaults.LastPriority]) with { InTurn = true });
}
