using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

// One row of outbox.migrations.
internal sealed record AppliedMigration(int Version, string Name, bool Breaking)
{
    // Null when there is no schema.
    public static async Task<IReadOnlyList<AppliedMigration>?> ListAsync(NpgsqlConnection connection, string schema, CancellationToken cancellationToken)
    {
        await using var exists = Sql("has_migrations").Command(connection);
        if (await exists.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false) is not true)
            return null;

        List<AppliedMigration> applied = [];
        await using var list = Sql("list_migrations").Command(connection);
        await using var reader = await list.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
            applied.Add(new(reader.GetInt32(0), reader.GetString(1), reader.GetBoolean(2)));
        return applied;

        SqlFile Sql(string name) => SqlFile.Read(typeof(Migrator).Assembly, $"sql/{name}.sql", schema);
    }
}
