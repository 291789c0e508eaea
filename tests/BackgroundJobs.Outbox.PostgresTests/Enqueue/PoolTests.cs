using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// A context that is leased again starts empty.
public sealed class PoolTests
{
    [Fault("E19", "a pooled context after a failed save", "its next user saves nothing of it")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E19_A_pooled_context_brings_nothing_of_a_failed_save_to_its_next_lease(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("insert into \"Servers\" (\"Name\", \"Address_City\") values ('taken', 'Ulm')");
        await using var services = new ServiceCollection()
            .AddDbContextPool<ShopContext>(options => options.UseNpgsql(shop.Database.DataSource).UseOutbox(), poolSize: 1)
            .BuildServiceProvider();
        DbContextId first;
        await using (var scope = services.CreateAsyncScope())
        {
            var db = scope.ServiceProvider.GetRequiredService<ShopContext>();
            first = db.ContextId;
            var server = new Server { Name = "taken" };
            db.Add(server);
            db.Enqueue(() => new BootServer(server.Id));
            db.Enqueue(new Told("of the first"));
            await Assert.ThrowsAsync<DbUpdateException>(() => db.SaveAsync(sync));
        }

        await using (var scope = services.CreateAsyncScope())
        {
            var db = scope.ServiceProvider.GetRequiredService<ShopContext>();
            Assert.Equal(first.InstanceId, db.ContextId.InstanceId);
            db.Enqueue(new Told("of the second"));
            await db.SaveAsync(sync);
        }

        Assert.Equal(["told {\"text\": \"of the second\"}"], await shop.JobsAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_pooled_factory_brings_no_unsaved_job_and_no_hint_to_its_next_lease(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var services = new ServiceCollection()
            .AddPooledDbContextFactory<ShopContext>(options => options.UseNpgsql(shop.Database.DataSource).UseOutbox(), poolSize: 1)
            .BuildServiceProvider();
        var factory = services.GetRequiredService<IDbContextFactory<ShopContext>>();
        List<JobHint> hints = [];
        await using (var db = await factory.CreateDbContextAsync(TestContext.Current.CancellationToken))
        {
            JobSignal.For(db.Database.GetDbConnection(), "outbox").Raised += hints.Add;
            await db.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);
            db.Enqueue(new Told("given up"));
            await db.SaveAsync(sync);
            db.Enqueue(new Told("never saved"));
        }

        await using (var db = await factory.CreateDbContextAsync(TestContext.Current.CancellationToken))
        {
            db.Add(new Server { Name = "a" });
            await db.SaveAsync(sync);
        }

        Assert.Empty(await shop.JobsAsync());
        Assert.Empty(hints);
    }
}
