using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// A save that did not go through, and what the next one then does: one job, never two and never a stray one.
public sealed class FailedSaveTests
{
    [Fault("E10", "a save fails, is corrected and made again", "one job")]
    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task E10_A_failed_save_that_is_corrected_and_saved_again_has_one_job(bool sync, bool inTransaction)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('taken', 'Ulm')");
        await using var db = shop.Context();
        await using var transaction = inTransaction ? await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken) : null;
        var server = new Server { Name = "taken" };
        db.Add(server);
        db.Enqueue(() => new Told(server.Name));
        db.Enqueue(new Told("known"));
        await Assert.ThrowsAsync<DbUpdateException>(() => db.SaveAsync(sync));
        Assert.Empty(await shop.JobsAsync());
        server.Name = "free";
        await db.SaveAsync(sync);
        await db.SaveAsync(sync);
        if (transaction is not null)
            await transaction.CommitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(["told {\"text\": \"free\"}", "told {\"text\": \"known\"}"], await shop.JobsAsync());
    }

    [Fault("E11", "a concurrency conflict, reload, save again", "one job")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E11_A_concurrency_conflict_that_is_reloaded_and_retried_has_one_job(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('a', 'Ulm')");
        await using var db = shop.Context();
        var server = await db.Servers.SingleAsync(TestContext.Current.CancellationToken);
        await shop.Database.ExecuteAsync("update \"Servers\" set \"Note\" = 'theirs'");
        server.Note = "ours";
        db.Enqueue(() => new Told(server.Note!));
        var conflict = await Assert.ThrowsAsync<DbUpdateConcurrencyException>(() => db.SaveAsync(sync));
        Assert.Empty(await shop.JobsAsync());
        var entry = conflict.Entries.Single(each => each.Entity is Server);
        entry.OriginalValues.SetValues((await entry.GetDatabaseValuesAsync(TestContext.Current.CancellationToken))!);
        await db.SaveAsync(sync);

        Assert.Equal(["told {\"text\": \"ours\"}"], await shop.JobsAsync());
        Assert.Equal("ours", await shop.Database.ScalarAsync<string>("select \"Note\" from \"Servers\""));
    }

    [Fault("E14", "AutoTransactionBehavior.Never", "refused without a transaction")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E14_AutoTransactionBehavior_Never_is_refused_without_a_transaction_and_works_with_one(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        db.Database.AutoTransactionBehavior = AutoTransactionBehavior.Never;
        db.Add(new Server { Name = "a" });
        db.Enqueue(new Told("job"));
        var error = await Assert.ThrowsAsync<OutboxException>(() => db.SaveAsync(sync));
        Assert.Contains("AutoTransactionBehavior.Never", error.Message, StringComparison.Ordinal);
        Assert.Contains("Begin a transaction", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, await shop.ServersAsync());

        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await db.SaveAsync(sync);
        await transaction.CommitAsync(TestContext.Current.CancellationToken);
        Assert.Single(await shop.JobsAsync());
    }

    [Fault("E15", "an error is swallowed and the aborted transaction committed", "an exception instead of a silent roll-back")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E15_A_swallowed_error_and_a_commit_that_would_silently_roll_back_throw(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('taken', 'Ulm')");
        await using var db = shop.Context();
        db.Database.AutoSavepointsEnabled = false;
        await using var transaction = await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
        db.Enqueue(new Told("job"));
        await db.SaveAsync(sync);
        db.Add(new Server { Name = "taken" });
        await Assert.ThrowsAsync<DbUpdateException>(() => db.SaveAsync(sync));
        var error = await Assert.ThrowsAsync<OutboxException>(() => transaction.CommitAsync(TestContext.Current.CancellationToken));

        Assert.Contains("an earlier command in it failed", error.Message, StringComparison.Ordinal);
        await transaction.RollbackAsync(TestContext.Current.CancellationToken);
        Assert.Empty(await shop.JobsAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E24_Ten_thousand_jobs_of_one_save_are_all_there_or_none(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('taken', 'Ulm')");
        await using var db = shop.Context();
        for (var i = 0; i < 10_000; i++)
            db.Enqueue(new BootServer(i));
        var server = new Server { Name = "taken" };
        db.Add(server);
        await Assert.ThrowsAsync<DbUpdateException>(() => db.SaveAsync(sync));
        Assert.Equal(0, await shop.Database.ScalarAsync<long>("select count(*) from outbox.jobs"));
        server.Name = "free";
        await db.SaveAsync(sync);

        Assert.Equal(10_000, await shop.Database.ScalarAsync<long>("select count(distinct args) from outbox.jobs"));
        Assert.Equal([server], db.ChangeTracker.Entries().Select(each => each.Entity).OfType<Server>());
        Assert.DoesNotContain(db.ChangeTracker.Entries(), each => each.Entity is not Server and not Address);
    }
}
