using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

public sealed class RoundTripTests
{
    [Theory]
    [InlineData(1, true)]
    [InlineData(1, false)]
    [InlineData(100, true)]
    [InlineData(100, false)]
    public async Task Known_arguments_cost_no_round_trip_and_late_bound_ones_at_most_one(int entities, bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var proxy = FaultProxy.Before(shop.Database.ConnectionString);
        await using var source = NpgsqlDataSource.Create(proxy.ConnectionString);
        async Task<int> CountAsync(Action<ShopContext, Server> each)
        {
            await using var db = new ShopContext(new DbContextOptionsBuilder<ShopContext>().UseNpgsql(source).UseOutbox(notify: false).Options);
            for (var i = 0; i < entities; i++)
            {
                var server = new Server { Name = Guid.NewGuid().ToString() };
                db.Add(server);
                each(db, server);
            }

            proxy.TakeRoundTrips();
            await db.SaveAsync(sync);
            return proxy.TakeRoundTrips();
        }

        // Npgsql reads the server's types with the first connection.
        await CountAsync((db, _) => db.Add(new Tariff()));
        var ordinary = await CountAsync((db, _) => db.Add(new Tariff()));
        var known = await CountAsync((db, server) => db.Enqueue(new Told(server.Name)));
        var late = await CountAsync((db, server) => db.Enqueue(() => new BootServer(server.Id)));
        TestContext.Current.TestOutputHelper!.WriteLine($"{entities}: ordinary {ordinary}, known {known}, late-bound {late}");

        Assert.True(ordinary > 0);
        Assert.Equal(ordinary, known);
        Assert.InRange(late, ordinary, ordinary + 1);
        Assert.Equal(2 * entities, await shop.Database.ScalarAsync<long>("select count(*) from outbox.jobs"));
    }
}
