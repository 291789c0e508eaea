using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>
/// Brings the outbox's schema to the version this library needs. Safe to run from every process at its start: one applies, the others
/// wait and find it done. Needs no session state, so a transaction pooler may stand between.
/// </summary>
public sealed class Migrator
{
    // Long enough for another process to finish its migrations before us.
    private const string WaitForOthers = "60s";

    // A migration that waits for its table lock makes every later query on the table wait behind it: it gives up first.
    private const string WaitForTables = "10s";

    // Beyond any index build that a migration may hold a lock for.
    private const string LongestStatement = "15min";

    private readonly NpgsqlDataSource dataSource;
    private readonly string schema;
    private readonly IReadOnlyList<Migration> migrations;

    /// <summary>A migrator for one database.</summary>
    /// <param name="dataSource">Where; its role must be allowed to create the schema, or own it.</param>
    /// <param name="options">The schema's name. Default: <c>outbox</c>.</param>
    public Migrator(NpgsqlDataSource dataSource, OutboxOptions? options = null)
        : this(dataSource, (options ?? OutboxOptions.Default).Schema, Migration.Embedded((options ?? OutboxOptions.Default).Schema))
    {
    }

    internal Migrator(NpgsqlDataSource dataSource, string schema, IReadOnlyList<Migration> migrations)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        this.dataSource = dataSource;
        this.schema = schema;
        this.migrations = migrations;
    }

    /// <summary>Every migration as one script: for psql, or for <c>migrationBuilder.Sql(...)</c>. Running it twice changes nothing.</summary>
    /// <param name="options">The schema's name. Default: <c>outbox</c>.</param>
    /// <returns>Plain SQL, one guarded block per migration.</returns>
    public static string Script(OutboxOptions? options = null)
    {
        var name = (options ?? OutboxOptions.Default).Schema;
        return string.Join('\n', Migration.Embedded(name).Select(migration => migration.ToSql(name)));
    }

    /// <summary>
    /// Six roles, each with the least it needs (owner, migrator, enqueue, worker, inspector, operator; named after the schema), as a script for
    /// a superuser: before the first migration, and again after each. Running it twice changes nothing.
    /// </summary>
    /// <param name="options">The schema's name. Default: <c>outbox</c>, and roles such as <c>outbox_worker</c>.</param>
    /// <returns>Plain SQL; also in <c>migrations/roles.sql</c>, where each role is described.</returns>
    public static string RolesScript(OutboxOptions? options = null) => Migration.RolesScript((options ?? OutboxOptions.Default).Schema);

    /// <summary>Applies what is missing, each migration in its own transaction.</summary>
    /// <param name="connectionString">Where.</param>
    /// <param name="options">The schema's name. Default: <c>outbox</c>.</param>
    /// <param name="cancellationToken">Stops between or within migrations; what was committed stays.</param>
    /// <returns>The names of the migrations that this call applied; empty when there was nothing to do.</returns>
    /// <exception cref="OutboxSchemaException">A migration failed, and nothing of it was kept; or the database is not UTF8.</exception>
    public static async Task<IReadOnlyList<string>> MigrateAsync(
        string connectionString, OutboxOptions? options = null, CancellationToken cancellationToken = default)
    {
        await using var dataSource = NpgsqlDataSource.Create(connectionString);
        return await new Migrator(dataSource, options).MigrateAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Applies what is missing, each migration in its own transaction.</summary>
    /// <param name="cancellationToken">Stops between or within migrations; what was committed stays.</param>
    /// <returns>The names of the migrations that this call applied; empty when there was nothing to do.</returns>
    /// <exception cref="OutboxSchemaException">A migration failed, and nothing of it was kept; or the database is not UTF8.</exception>
    public async Task<IReadOnlyList<string>> MigrateAsync(CancellationToken cancellationToken = default)
    {
        List<string> applied = [];
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        SchemaCheck.CheckEncoding(connection);
        // Asked without the lock first: a process that starts on a current schema waits for nobody.
        var present = await AppliedMigration.ListAsync(connection, schema, cancellationToken).ConfigureAwait(false) ?? [];
        foreach (var migration in migrations.Where(each => present.All(row => row.Version != each.Version)))
        {
            if (await ApplyAsync(connection, migration, cancellationToken).ConfigureAwait(false))
                applied.Add(migration.Name);
        }

        return applied;
    }

    /// <summary>The newest migration that the database has.</summary>
    /// <param name="cancellationToken">Stops the question.</param>
    /// <returns>Its number; 0 when there is no schema.</returns>
    public async Task<int> GetVersionAsync(CancellationToken cancellationToken = default)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var present = await AppliedMigration.ListAsync(connection, schema, cancellationToken).ConfigureAwait(false);
        return present is [.., var newest] ? newest.Version : 0;
    }

    /// <summary>Says whether this library can work with the database as it is; a worker asks before it starts.</summary>
    /// <param name="cancellationToken">Stops the question.</param>
    /// <returns>A task; its normal end is the yes.</returns>
    /// <exception cref="OutboxSchemaException">No schema, an older one, a newer one with a breaking migration that this version does not know, or a database that is not UTF8.</exception>
    public async Task CheckAsync(CancellationToken cancellationToken = default)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        SchemaCheck.CheckEncoding(connection);
        var present = await AppliedMigration.ListAsync(connection, schema, cancellationToken).ConfigureAwait(false);
        SchemaCheck.Check(migrations, present, schema, connection.Database);
    }

    private async Task<bool> ApplyAsync(NpgsqlConnection connection, Migration migration, CancellationToken cancellationToken)
    {
        try
        {
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
            await LimitAsync(connection, WaitForOthers, cancellationToken).ConfigureAwait(false);
            await RunAsync(Sql("lock_migrations").Command(connection), cancellationToken).ConfigureAwait(false);
            var present = await AppliedMigration.ListAsync(connection, schema, cancellationToken).ConfigureAwait(false) ?? [];
            if (present.Any(row => row.Version == migration.Version))
                return false;
            await LimitAsync(connection, WaitForTables, cancellationToken).ConfigureAwait(false);
            await RunAsync(new NpgsqlCommand(migration.ToSql(schema), connection), cancellationToken).ConfigureAwait(false);
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (PostgresException e)
        {
            throw new OutboxSchemaException(
                $"Migration {migration.Name} could not be applied to database '{connection.Database}': {e.SqlState}: {e.MessageText}. "
                + $"Nothing of it was kept{(e.SqlState == PostgresErrorCodes.LockNotAvailable ? "; another session held a lock it needs" : "")}. "
                + "Remove the cause and migrate again: it goes on where it stopped.",
                e);
        }
    }

    private Task LimitAsync(NpgsqlConnection connection, string lockTimeout, CancellationToken cancellationToken) => RunAsync(
        Sql("limit_migration").Command(connection, ("lock_timeout", Value(lockTimeout)), ("statement_timeout", Value(LongestStatement))),
        cancellationToken);

    private SqlFile Sql(string name) => SqlFile.Read(typeof(Migrator).Assembly, $"sql/{name}.sql", schema);

    // The server's timeouts rule here, not the client's.
    private static async Task RunAsync(NpgsqlCommand command, CancellationToken cancellationToken)
    {
        await using (command)
        {
            command.CommandTimeout = 0;
            await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
        }
    }
}
