using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// Other people's interceptors before and after ours.
public sealed class InterceptorTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Jobs_that_an_interceptor_before_ours_enqueues_are_saved_known_and_late_bound(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context(options => options.AddInterceptors(new Other(context =>
        {
            var server = context.ChangeTracker.Entries<Server>().Single().Entity;
            context.Enqueue(() => new BootServer(server.Id));
            context.Enqueue(new Told("known"));
        })));
        var server = new Server { Name = "a" };
        db.Add(server);
        await db.SaveAsync(sync);

        Assert.Equal([$"boot_server {{\"serverId\": {server.Id}}}", "told {\"text\": \"known\"}"], await shop.JobsAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_known_job_of_an_interceptor_after_ours_is_saved_and_a_late_bound_one_is_refused_with_what_to_do(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using (var db = After(shop, context => context.Enqueue(new Told("known"))))
        {
            db.Add(new Server { Name = "a" });
            await db.SaveAsync(sync);
        }

        await using (var db = After(shop, context => context.Enqueue(() => new Told("late"))))
        {
            db.Add(new Server { Name = "b" });
            var error = await Assert.ThrowsAsync<OutboxException>(() => db.SaveAsync(sync));
            Assert.Contains("UseOutbox() after AddInterceptors", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(["told {\"text\": \"known\"}"], await shop.JobsAsync());
        Assert.Equal(1, await shop.ServersAsync());
    }

    [Fault("E12", "another interceptor throws in SavingChanges", "the next save brings no stray job")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E12_An_interceptor_that_throws_leaves_no_stray_job_for_the_next_save(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        var throws = true;
        await using var db = After(shop, _ =>
        {
            if (throws)
                throw new NotSupportedException("not today");
        });
        var server = new Server { Name = "a" };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id));
        await Assert.ThrowsAsync<NotSupportedException>(() => db.SaveAsync(sync));
        throws = false;

        // What the application forgets is forgotten with its job; what it keeps is saved once.
        db.ChangeTracker.Clear();
        await db.SaveAsync(sync);
        Assert.Empty(await shop.JobsAsync());
        var kept = new Server { Name = "b" };
        db.Add(kept);
        db.Enqueue(() => new BootServer(kept.Id));
        throws = true;
        await Assert.ThrowsAsync<NotSupportedException>(() => db.SaveAsync(sync));
        throws = false;
        await db.SaveAsync(sync);
        Assert.Equal([$"boot_server {{\"serverId\": {kept.Id}}}"], await shop.JobsAsync());
    }

    [Fault("E13", "another interceptor suppresses the save", "no job is reported; it goes with the next save")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E13_A_suppressed_save_writes_no_job_raises_nothing_and_keeps_it_for_the_next(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        var suppress = true;
        List<JobHint> hints = [];
        await using var db = After(shop, _ => { }, () => suppress);
        JobSignal.For(db.Database.GetDbConnection(), "outbox").Raised += hints.Add;
        db.Add(new Server { Name = "a" });
        db.Enqueue(new Told("job"));
        await db.SaveAsync(sync);
        Assert.Empty(await shop.JobsAsync());
        Assert.Empty(hints);
        suppress = false;
        await db.SaveAsync(sync);

        Assert.Single(await shop.JobsAsync());
        Assert.Single(hints);
    }

    private static ShopContext After(Shop shop, Action<DbContext> act, Func<bool>? suppress = null)
    {
        var builder = new DbContextOptionsBuilder<ShopContext>(shop.Options<ShopContext>());
        builder.AddInterceptors(new Other(act, suppress));
        return new ShopContext(builder.Options);
    }

    private sealed class Other(Action<DbContext> act, Func<bool>? suppress = null) : SaveChangesInterceptor
    {
        public override InterceptionResult<int> SavingChanges(DbContextEventData eventData, InterceptionResult<int> result)
        {
            act(eventData.Context!);
            return suppress?.Invoke() == true ? InterceptionResult<int>.SuppressWithResult(0) : result;
        }

        public override ValueTask<InterceptionResult<int>> SavingChangesAsync(
            DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default) =>
            ValueTask.FromResult(SavingChanges(eventData, result));
    }
}
