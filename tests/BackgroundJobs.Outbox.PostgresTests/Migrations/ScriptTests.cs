using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Migrations;

namespace BackgroundJobs.Outbox.PostgresTests.Migrations;

public sealed class ScriptTests
{
    [Fact]
    public async Task The_script_makes_the_same_schema_in_psql_as_the_migrator_and_can_run_twice()
    {
        await using var migrated = await ScratchDatabase.MigratedAsync();
        await using var database = await ScratchDatabase.EmptyAsync();
        var file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, Migrator.Script());
        await database.PsqlAsync("-f", file);
        await database.PsqlAsync("-f", file);
        await database.PsqlAsync("-1", "-f", file);
        File.Delete(file);

        await new Migrator(database.DataSource).CheckAsync();
        Assert.Empty(await new Migrator(database.DataSource).MigrateAsync());
        Assert.Equal(await SchemaDump.OfAsync(migrated, "outbox"), await SchemaDump.OfAsync(database, "outbox"));
    }

    [Fact]
    public async Task The_script_runs_inside_an_applications_own_ef_migration()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await using var shop = new ShopContext(database.ConnectionString);
        await shop.Database.MigrateAsync();
        await new Migrator(database.DataSource).CheckAsync();
        Assert.Equal("orders", await database.ScalarAsync<string>("SELECT to_regclass('orders')::text"));
        Assert.Equal(Postgres.Migration.Embedded("outbox").Count, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.migrations"));
    }

    [Fact]
    public async Task Efs_own_idempotent_script_can_carry_it_too()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await using var shop = new ShopContext(database.ConnectionString);
        var file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, shop.GetService<IMigrator>().GenerateScript(options: MigrationsSqlGenerationOptions.Idempotent));
        await database.PsqlAsync("-f", file);
        await database.PsqlAsync("-f", file);
        File.Delete(file);
        await new Migrator(database.DataSource).CheckAsync();
        Assert.Equal(0, await shop.Database.ExecuteSqlRawAsync("DELETE FROM orders"));
    }

    [Fact]
    public void No_migration_holds_the_quotes_that_the_script_puts_around_it() => Assert.All(
        Postgres.Migration.Embedded("outbox"),
        migration =>
        {
            Assert.DoesNotContain("$guard$", migration.Body, StringComparison.Ordinal);
            Assert.DoesNotContain("$body$", migration.Body, StringComparison.Ordinal);
            Assert.StartsWith("-- Why: ", migration.Body, StringComparison.Ordinal);
        });

    private sealed class ShopContext(string connectionString) : DbContext
    {
        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseNpgsql(connectionString);
    }

    [DbContext(typeof(ShopContext))]
    [MigrationAttribute("20260101000000_AddOrdersAndOutbox")]
    private sealed class AddOrdersAndOutbox : Microsoft.EntityFrameworkCore.Migrations.Migration
    {
        protected override void Up(MigrationBuilder migrationBuilder)
        {
            migrationBuilder.CreateTable("orders", table => new { id = table.Column<int>() });
            migrationBuilder.Sql(Migrator.Script());
        }
    }
}
