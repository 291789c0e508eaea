using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// What only the insert itself makes is refused by name, before anything is written.
public sealed class RefusedKeyTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_computed_column_is_refused_with_entity_and_property(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var made = new MadeByDatabase { Text = "a" };
        db.Add(made);
        db.Enqueue(() => new Told(made.Shouted));
        var error = await Assert.ThrowsAsync<OutboxException>(() => db.SaveAsync(sync));

        Assert.Contains("MadeByDatabase.Shouted", error.Message, StringComparison.Ordinal);
        Assert.Contains("computed column", error.Message, StringComparison.Ordinal);
        Assert.Contains("Nothing was written", error.Message, StringComparison.Ordinal);
        await NothingAsync(shop);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_row_version_is_refused_with_entity_and_property(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var made = new MadeByDatabase { Text = "a" };
        db.Add(made);
        db.Enqueue(() => new Told("v" + made.Version));
        var error = await Assert.ThrowsAsync<OutboxException>(() => db.SaveAsync(sync));

        Assert.Contains("MadeByDatabase.Version", error.Message, StringComparison.Ordinal);
        await NothingAsync(shop);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_identity_that_the_database_always_makes_is_refused_with_entity_and_property(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var row = new AlwaysRow();
        db.Add(row);
        db.Enqueue(() => new BootServer(row.Id));
        var error = await Assert.ThrowsAsync<OutboxException>(() => db.SaveAsync(sync));

        Assert.Contains("AlwaysRow.Id", error.Message, StringComparison.Ordinal);
        Assert.Contains("GENERATED ALWAYS", error.Message, StringComparison.Ordinal);
        await NothingAsync(shop);
    }

    [Fact]
    public async Task A_value_that_is_changed_between_Enqueue_and_SaveChanges_arrives_as_saved()
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var server = new Server { Name = "old" };
        db.Add(server);
        db.Enqueue(() => new Told(server.Name));
        server.Name = "new";
        await db.SaveAsync(sync: false);

        Assert.Equal(["told {\"text\": \"new\"}"], await shop.JobsAsync());
    }

    [Fact]
    public async Task A_job_of_an_entity_that_is_detached_before_the_save_is_dropped_with_it()
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var (gone, stays) = (new Server { Name = "gone" }, new Server { Name = "stays" });
        db.AddRange(gone, stays);
        db.Enqueue(() => new BootServer(gone.Id));
        db.Enqueue(() => new Told(stays.Name));
        db.Entry(gone).State = EntityState.Detached;
        await db.SaveAsync(sync: false);

        Assert.Equal(["told {\"text\": \"stays\"}"], await shop.JobsAsync());
    }

    private static async Task NothingAsync(Shop shop)
    {
        Assert.Empty(await shop.JobsAsync());
        Assert.Equal(0, await shop.Database.ScalarAsync<long>("select (select count(*) from \"MadeByDatabase\") + (select count(*) from \"AlwaysRow\")"));
    }
}
