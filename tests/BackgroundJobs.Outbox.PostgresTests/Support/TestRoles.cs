using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// Who the product is in these tests: users with the roles of migrations/roles.sql and no right beyond them. Only what a test does by hand
// (making tables, looking, breaking things) is done as the server's own user.
internal static class TestRoles
{
    // Runs jobs, and enqueues more in its handlers.
    public const string Application = "outbox_test_application";

    public const string Enqueuer = "outbox_test_enqueuer";

    public const string Inspector = "outbox_test_inspector";

    public const string Operator = "outbox_test_operator";

    public const string Migrator = "outbox_test_migrator";

    private static readonly (string User, string Roles)[] Users =
    [
        (Application, "outbox_enqueue, outbox_worker"),
        (Enqueuer, "outbox_enqueue"),
        (Inspector, "outbox_inspector"),
        (Operator, "outbox_operator"),
        (Migrator, "outbox_migrator"),
    ];

    // The schema's owner migrates; then the roles are given what came to be.
    public static async Task MigrateAsync(string connectionString)
    {
        await using var admin = NpgsqlDataSource.Create(connectionString);
        await ExecuteAsync(admin, Postgres.Migrator.RolesScript());
        foreach (var (user, roles) in Users)
            await ExecuteAsync(admin, MakeUser(user, roles, new NpgsqlConnectionStringBuilder(connectionString).Password));
        await Postgres.Migrator.MigrateAsync(As(Migrator, connectionString) + ";Options=-c role=outbox_owner");
        await ExecuteAsync(admin, Postgres.Migrator.RolesScript());
    }

    public static string As(string user, string connectionString) => new NpgsqlConnectionStringBuilder(connectionString) { Username = user }.ConnectionString;

    // What belongs to a test (its tables and their sequences, whoever made them) is everybody's.
    private static string MakeUser(string user, string roles, string? password) => $"""
        DO $$
        BEGIN
            CREATE ROLE {user} LOGIN PASSWORD '{password}';
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;
        END
        $$;
        GRANT {roles} TO {user};
        GRANT CREATE ON SCHEMA public TO {user};
        ALTER DEFAULT PRIVILEGES FOR ROLE CURRENT_USER, {user} IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC;
        ALTER DEFAULT PRIVILEGES FOR ROLE CURRENT_USER, {user} IN SCHEMA public GRANT ALL ON SEQUENCES TO PUBLIC;
        """;

    private static async Task ExecuteAsync(NpgsqlDataSource admin, string sql)
    {
        await using var command = admin.CreateCommand(sql);
        await command.ExecuteNonQueryAsync();
    }
}
