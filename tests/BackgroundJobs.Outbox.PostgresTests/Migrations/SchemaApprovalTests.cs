using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Migrations;

public sealed class SchemaApprovalTests
{
    [Fact]
    public async Task The_migrated_schema_is_the_approved_one()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Approved.Verify(
            await SchemaDump.OfAsync(database, "outbox"),
            Repository.PathOf("tests", "BackgroundJobs.Outbox.PostgresTests", "Migrations", "schema.approved.txt"));
    }
}
