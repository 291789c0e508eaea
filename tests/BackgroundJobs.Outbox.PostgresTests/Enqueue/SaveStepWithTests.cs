using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using BackgroundJobs.Outbox.PostgresTests.HowToFail;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Server = BackgroundJobs.Outbox.PostgresTests.Enqueue.Model.Server;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// A step that is kept by the handler's own SaveChanges.
public sealed class SaveStepWithTests
{
    private const string Steps = "SELECT coalesce((SELECT string_agg(key || ' ' || (value ->> 'result'), ', ' ORDER BY key) FROM jsonb_each(steps)), '-') FROM outbox.jobs";

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    // As an application has it: the first attempt rolls back, the second commits, the third finds the step.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_step_is_rolled_back_and_committed_with_its_effect_and_later_attempts_get_its_result(bool explicitly)
    {
        await using var database = await ServerContext.CreateDatabaseAsync();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(
                async (_, context, token) =>
                {
                    if (context.TryGetStep("boot", out string? kept))
                    {
                        Assert.Equal("boot 2", kept);
                        return;
                    }

                    await using var db = ServerContext.Open(database);
                    await using var transaction = explicitly ? await db.Database.BeginTransactionAsync(token) : null;
                    db.Add(new HowToFail.Server { Name = $"boot {context.Attempt}" });
                    context.SaveStepWith(db, "boot", $"boot {context.Attempt}");
                    if (!explicitly && context.Attempt == 1)
                        throw new InvalidOperationException("before the save");
                    await db.SaveChangesAsync(token);
                    if (context.Attempt == 1)
                        throw new InvalidOperationException("before the commit");
                    if (transaction is not null)
                        await transaction.CommitAsync(token);
                    throw new InvalidOperationException("after the commit");
                },
                kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(10))));
        await worker.EnqueueAsync(new NumberJob(7));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed' AND attempt = 3") == 1, "it has ended");
        Assert.Equal(["boot 2"], await database.TextsAsync("""SELECT "Name" FROM "Servers" """));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_lost_lease_throws_and_nothing_of_the_handler_is_written(bool sync)
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await CompleteWithTests.ClaimAsync(shop);
        await shop.Database.ExecuteAsync("UPDATE outbox.jobs SET lease_token = gen_random_uuid()");
        await using var db = shop.Context();
        db.Add(new Server { Name = "effect" });
        context.SaveStepWith(db, "boot", 1);
        await Assert.ThrowsAsync<LeaseLostException>(() => db.SaveAsync(sync));

        Assert.Equal("-", await shop.Database.ScalarAsync<string>(Steps));
        Assert.Equal(0, await shop.ServersAsync());
    }

    [Fact]
    public async Task The_last_result_of_a_name_is_kept_in_one_save_and_over_several_with_one_context()
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await CompleteWithTests.ClaimAsync(shop);
        await using var db = shop.Context();
        context.SaveStepWith(db, "boot", 1);
        context.SaveStepWith(db, "boot", 2);
        context.SaveStepWith(db, "mail", "sent");
        await db.SaveChangesAsync(Cancellation);
        Assert.Equal("boot 2, mail sent", await shop.Database.ScalarAsync<string>(Steps));
        context.SaveStepWith(db, "boot", 3);
        await db.SaveChangesAsync(Cancellation);
        await db.SaveChangesAsync(Cancellation);
        Assert.Equal("boot 3, mail sent", await shop.Database.ScalarAsync<string>(Steps));
    }

    [Fact]
    public async Task A_completion_in_the_same_save_ends_the_job_and_its_steps_and_after_it_no_step_is_taken()
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await CompleteWithTests.ClaimAsync(shop);
        await using var db = shop.Context();
        context.SaveStepWith(db, "boot", 1);
        context.CompleteWith(db);
        Assert.Throws<InvalidOperationException>(() => context.SaveStepWith(db, "mail", 1));
        await db.SaveChangesAsync(Cancellation);
        Assert.True(context.Completion.Confirmed);
        Assert.Empty(await shop.JobsAsync());
    }

    [Fact]
    public async Task What_cannot_be_kept_is_refused_before_anything_is_written()
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var context = await CompleteWithTests.ClaimAsync(shop);
        await using var db = shop.Context();
        Assert.Throws<InvalidJobException>(() => context.SaveStepWith(db, "No Name", 1));
        Assert.Throws<InvalidJobException>(() => context.SaveStepWith(db, "boot", new string('x', 70_000)));
        Assert.Empty(db.ChangeTracker.Entries());

        db.Database.AutoTransactionBehavior = AutoTransactionBehavior.Never;
        context.SaveStepWith(db, "boot", 1);
        Assert.Contains(
            "AutoTransactionBehavior.Never", (await Assert.ThrowsAsync<OutboxException>(() => db.SaveChangesAsync(Cancellation))).Message, StringComparison.Ordinal);
        Assert.Equal("-", await shop.Database.ScalarAsync<string>(Steps));
    }
}
