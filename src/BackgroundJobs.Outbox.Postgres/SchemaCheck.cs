using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

// What a library that knows some migrations can do with a database that has some.
internal static class SchemaCheck
{
    private const string Remedy =
        "Apply the migrations: call Migrator.MigrateAsync(), run 'outbox migrate', or run the script that Migrator.Script() returns.";

    // Names and arguments of jobs are any text; what another encoding cannot hold would fail at some enqueue, and not at the start.
    public static void CheckEncoding(NpgsqlConnection connection)
    {
        if (connection.PostgresParameters.TryGetValue("server_encoding", out var encoding) && encoding != "UTF8")
            throw new OutboxSchemaException(
                $"Database '{connection.Database}' has the encoding {encoding}, which cannot hold every job's arguments. "
                + "Use a database that was created with ENCODING 'UTF8'.");
    }

    public static void Check(IReadOnlyList<Migration> known, IReadOnlyList<AppliedMigration>? present, string schema, string database)
    {
        var needed = known[^1].Version;
        if (present is null)
            throw new OutboxSchemaException(
                $"Database '{database}' has no outbox schema '{schema}'; this version of the library needs version {needed} of it. {Remedy}");

        var newest = present is [.., var last] ? last.Version : 0;
        if (known.FirstOrDefault(each => present.All(row => row.Version != each.Version)) is { } missing)
            throw new OutboxSchemaException(
                $"The outbox schema '{schema}' of database '{database}' is at version {newest}, and lacks {missing.Name}; "
                + $"this version of the library needs version {needed}. {Remedy}");

        if (present.FirstOrDefault(row => row.Breaking && known.All(each => each.Version != row.Version)) is { } unknown)
            throw new OutboxSchemaException(
                $"The outbox schema '{schema}' of database '{database}' is at version {newest}; this version of the library knows up to {needed}, "
                + $"and {unknown.Name} is marked as breaking for it. A newer version of the application has migrated the database. "
                + "Deploy a version of the application that knows this schema.");
    }
}
