using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Migrations;
using Microsoft.EntityFrameworkCore.Storage;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

public sealed class RuleTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Insert_update_and_delete_enqueue_by_rule_also_for_derived_types(bool sync)
    {
        await using var database = await OpenAsync();
        await using var db = Context(database);
        var dog = new Dog { Bark = "wuff" };
        db.Add(dog);
        await db.SaveAsync(sync);
        Assert.Equal([$"inserted {dog.Id}"], await TakeAsync(database));
        dog.Bark = "wau";
        await db.SaveAsync(sync);
        Assert.Equal(["any wau", "bark wau"], await TakeAsync(database));
        db.Entry(dog).Property<string?>("Owner").CurrentValue = "Ida";
        await db.SaveAsync(sync);
        Assert.Equal(["any wau"], await TakeAsync(database));
        await db.SaveAsync(sync);
        Assert.Empty(await TakeAsync(database));
        db.Remove(dog);
        await db.SaveAsync(sync);
        Assert.Equal(["deleted wau"], await TakeAsync(database));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_failed_save_that_is_corrected_enqueues_by_rule_once_and_with_the_corrected_value(bool sync)
    {
        await using var database = await OpenAsync();
        await using var db = Context(database);
        var dog = new Dog { Bark = "wuff" };
        db.Add(dog);
        await db.SaveAsync(sync);
        await TakeAsync(database);
        dog.Bark = "too long";
        await Assert.ThrowsAsync<DbUpdateException>(() => db.SaveAsync(sync));
        dog.Bark = "wau";
        await db.SaveAsync(sync);
        Assert.Equal(["any wau", "bark wau"], await TakeAsync(database));

        // Given up altogether: so is its job.
        dog.Bark = "too long";
        await Assert.ThrowsAsync<DbUpdateException>(() => db.SaveAsync(sync));
        await db.Entry(dog).ReloadAsync(TestContext.Current.CancellationToken);
        await db.SaveAsync(sync);
        Assert.Empty(await TakeAsync(database));
    }

    [Fact]
    public async Task The_migrations_of_the_application_see_neither_our_tables_nor_the_rules()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await using var with = Context(database);
        await using var without = new PetContext(new DbContextOptionsBuilder<PetContext>().UseNpgsql(database.DataSource).Options, rules: false);
        var differ = with.GetService<IMigrationsModelDiffer>();

        Assert.Empty(differ.GetDifferences(Relational(without), Relational(with)));
        Assert.Empty(differ.GetDifferences(Relational(with), Relational(without)));
        Assert.DoesNotContain("outbox", with.Database.GenerateCreateScript(), StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain(
            with.GetService<IDesignTimeModel>().Model.GetEntityTypes().SelectMany(each => each.GetAnnotations()),
            each => each.Name.StartsWith("Outbox", StringComparison.Ordinal));
    }

    private static IRelationalModel Relational(DbContext db) => db.GetService<IDesignTimeModel>().Model.GetRelationalModel();

    private static async Task<ScratchDatabase> OpenAsync()
    {
        var database = await ScratchDatabase.MigratedAsync();
        await using var db = Context(database);
        await db.GetService<IRelationalDatabaseCreator>().CreateTablesAsync(TestContext.Current.CancellationToken);
        return database;
    }

    private static PetContext Context(ScratchDatabase database) =>
        new(new DbContextOptionsBuilder<PetContext>().UseNpgsql(database.DataSource).UseOutbox().Options, rules: true);

    private static async Task<List<string>> TakeAsync(ScratchDatabase database) =>
        [.. (await database.TextsAsync("delete from outbox.jobs returning args ->> 'text'")).Order(StringComparer.Ordinal)];

    private sealed class PetContext(DbContextOptions options, bool rules) : DbContext(options)
    {
        protected override void OnModelCreating(ModelBuilder modelBuilder)
        {
            modelBuilder.Entity<Dog>().Property(each => each.Bark).HasMaxLength(4);
            modelBuilder.Entity<Animal>().Property<string?>("Owner");
            if (!rules)
                return;
            modelBuilder.Entity<Animal>().EnqueuesOnInsert(each => new Told("inserted " + each.Id));
            modelBuilder.Entity<Dog>()
                .EnqueuesOnUpdate(each => new Told("any " + each.Bark))
                .EnqueuesOnUpdate(each => new Told("bark " + each.Bark), each => each.Bark)
                .EnqueuesOnDelete(each => new Told("deleted " + each.Bark));
        }
    }
}
