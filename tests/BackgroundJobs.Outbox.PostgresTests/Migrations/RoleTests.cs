using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Migrations;

// Who may do what (migrations/roles.sql). That each role may do all that it is for is shown by every other test, which run as them (TestRoles);
// here is what they may not.
public sealed class RoleTests
{
    private const string Refused = "42501";

    private const string Insert = "INSERT INTO outbox.jobs (id, kind, args) VALUES (gen_random_uuid(), 'a', '{}')";

    [Fault("X08", "each role does what it is not for", "42501")]
    [Fault("X12", "the worker's role changes the kind, queue or arguments of a job, or deletes history", "42501")]
    [Fault("X13", "an inspector reads arguments, headers or cursors", "42501")]
    [Theory]
    [InlineData(TestRoles.Enqueuer, "SELECT args FROM outbox.jobs")]
    [InlineData(TestRoles.Enqueuer, "INSERT INTO outbox.jobs (id, kind, args, attempt) VALUES (gen_random_uuid(), 'a', '{}', 7)")]
    [InlineData(TestRoles.Enqueuer, "INSERT INTO outbox.jobs (id, kind, args, lease_token) VALUES (gen_random_uuid(), 'a', '{}', gen_random_uuid())")]
    [InlineData(TestRoles.Enqueuer, "UPDATE outbox.jobs SET run_at = now()")]
    [InlineData(TestRoles.Enqueuer, "DELETE FROM outbox.jobs")]
    [InlineData(TestRoles.Enqueuer, "SELECT args FROM outbox.job_history")]
    [InlineData(TestRoles.Enqueuer, "INSERT INTO outbox.workers SELECT * FROM outbox.workers")]
    [InlineData(TestRoles.Enqueuer, "CALL outbox.complete_job(gen_random_uuid(), gen_random_uuid(), 0::smallint)")]
    [InlineData(TestRoles.Enqueuer, "SELECT outbox.maintain_history(1, interval '1 day')")]
    [InlineData(TestRoles.Application, "UPDATE outbox.jobs SET args = '{}'")]
    [InlineData(TestRoles.Application, "UPDATE outbox.jobs SET kind = 'b'")]
    [InlineData(TestRoles.Application, "UPDATE outbox.jobs SET queue = 'b'")]
    [InlineData(TestRoles.Application, "DELETE FROM outbox.job_history")]
    [InlineData(TestRoles.Application, "UPDATE outbox.queues SET paused_at = NULL")]
    [InlineData(TestRoles.Application, "INSERT INTO outbox.paused_kinds (kind) VALUES ('a')")]
    [InlineData(TestRoles.Application, "DELETE FROM outbox.paused_kinds")]
    [InlineData(TestRoles.Inspector, "DELETE FROM outbox.paused_kinds")]
    [InlineData(TestRoles.Inspector, "SELECT args FROM outbox.jobs")]
    [InlineData(TestRoles.Inspector, "SELECT headers FROM outbox.all_jobs")]
    [InlineData(TestRoles.Inspector, "SELECT saved_cursor FROM outbox.job_history")]
    [InlineData(TestRoles.Inspector, Insert)]
    [InlineData(TestRoles.Inspector, "UPDATE outbox.jobs SET run_at = now()")]
    [InlineData(TestRoles.Inspector, "DELETE FROM outbox.jobs")]
    [InlineData(TestRoles.Operator, "UPDATE outbox.jobs SET args = '{}'")]
    [InlineData(TestRoles.Operator, "UPDATE outbox.jobs SET lease_token = NULL")]
    [InlineData(TestRoles.Operator, "UPDATE outbox.job_history SET state = 'completed'")]
    [InlineData(TestRoles.Operator, "DELETE FROM outbox.workers")]
    [InlineData(TestRoles.Operator, "DELETE FROM outbox.operations")]
    [InlineData(TestRoles.Operator, "UPDATE outbox.operations SET jobs = 0")]
    [InlineData(TestRoles.Operator, "INSERT INTO outbox.operations (actor, verb, jobs, what) VALUES ('somebody else', 'retry', 1, '{}')")]
    [InlineData(TestRoles.Operator, "INSERT INTO outbox.operations (at, verb, jobs, what) VALUES ('2000-01-01', 'retry', 1, '{}')")]
    [InlineData(TestRoles.Application, "SELECT * FROM outbox.operations")]
    [InlineData(TestRoles.Enqueuer, "INSERT INTO outbox.operations (verb, jobs, what) VALUES ('retry', 1, '{}')")]
    [InlineData(TestRoles.Operator, "SELECT outbox.maintain_history(1, interval '1 day')")]
    [InlineData(TestRoles.Enqueuer, "INSERT INTO outbox.schedules (name, kind, cron) VALUES ('s', 'a', '@daily')")]
    [InlineData(TestRoles.Enqueuer, "SELECT * FROM outbox.schedules")]
    [InlineData(TestRoles.Inspector, "SELECT args FROM outbox.schedules")]
    [InlineData(TestRoles.Inspector, "UPDATE outbox.schedules SET paused_at = now()")]
    [InlineData(TestRoles.Application, "DELETE FROM outbox.schedules")]
    [InlineData(TestRoles.Application, "UPDATE outbox.schedule_ticks SET job_id = NULL")]
    public async Task X08_a_role_may_not_do_what_it_is_not_for(string user, string sql)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Assert.Equal(Refused, await StateAsync(database, user, sql));
    }

    [Fault("X15", "any role of a running system changes the schema", "42501; the whole suite runs as these roles")]
    [Theory]
    [InlineData(TestRoles.Application)]
    [InlineData(TestRoles.Enqueuer)]
    [InlineData(TestRoles.Inspector)]
    [InlineData(TestRoles.Operator)]
    public async Task X15_no_role_of_a_running_system_can_change_the_schema(string user)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        foreach (var sql in new[]
        {
            "CREATE TABLE outbox.mine (id integer)", "DROP TABLE outbox.jobs", "ALTER TABLE outbox.jobs ADD COLUMN mine integer", "TRUNCATE outbox.jobs",
            "CREATE SCHEMA mine", "CREATE EXTENSION pg_stat_statements", "SET ROLE outbox_owner", "CREATE ROLE mine",
        })
        {
            Assert.Equal((sql, Refused), (sql, await StateAsync(database, user, sql)));
        }

        Assert.False(await database.ScalarAsync<bool>(
            $"SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = '{user}'"));
    }

    [Fault("X09", "the enqueue role adds jobs by hand", "the columns of a new job and no other")]
    [Fault("X10", "RETURNING under column grants", "works")]
    [Fault("X11", "EF's RETURNING under the enqueue role", "works: every column is set by the client")]
    [Fact]
    public async Task X09_the_enqueue_role_adds_jobs_by_hand_and_by_the_function_and_sees_what_an_insert_returns()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Assert.Null(await StateAsync(database, TestRoles.Enqueuer, Insert + " RETURNING id, queue, run_at"));
        Assert.Null(await StateAsync(database, TestRoles.Enqueuer, "SELECT outbox.enqueue('a', '{}')"));
        Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fault("X15", "objects that another role owns", "none")]
    [Fact]
    public async Task Everything_in_the_schema_belongs_to_the_owner_who_cannot_log_in()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Assert.Empty(await database.TextsAsync(
            """
            SELECT class.relname::text FROM pg_class AS class WHERE class.relnamespace = 'outbox'::regnamespace AND class.relowner <> 'outbox_owner'::regrole
            UNION ALL
            SELECT proc.proname::text FROM pg_proc AS proc WHERE proc.pronamespace = 'outbox'::regnamespace AND proc.proowner <> 'outbox_owner'::regrole
            UNION ALL
            SELECT type.typname::text FROM pg_type AS type WHERE type.typnamespace = 'outbox'::regnamespace AND type.typowner <> 'outbox_owner'::regrole
            """));
        Assert.False(await database.ScalarAsync<bool>("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'outbox_owner'"));
    }

    [Fact]
    public async Task The_script_runs_before_the_migrations_after_them_and_again_and_takes_over_what_another_role_made()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        OutboxOptions options = new() { Schema = "jobs_of_roles" };
        await new Migrator(database.Admin, options).MigrateAsync();
        for (var run = 1; run <= 2; run++)
            await database.ExecuteAsync(Migrator.RolesScript(options));
        Assert.Equal("jobs_of_roles_owner", await database.ScalarAsync<string>("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'jobs_of_roles.jobs'::regclass"));
        Assert.True(await database.ScalarAsync<bool>("SELECT has_column_privilege('jobs_of_roles_enqueue', 'jobs_of_roles.jobs', 'args', 'INSERT')"));
        Assert.False(await database.ScalarAsync<bool>("SELECT has_column_privilege('jobs_of_roles_enqueue', 'jobs_of_roles.jobs', 'args', 'SELECT')"));
        await database.ExecuteAsync("DROP SCHEMA jobs_of_roles CASCADE");
        foreach (var role in new[] { "migrator", "owner", "enqueue", "worker", "inspector", "operator" })
            await database.ExecuteAsync($"DROP ROLE jobs_of_roles_{role}");
    }

    // The SQLSTATE of what this user is told; null when it is done.
    private static async Task<string?> StateAsync(ScratchDatabase database, string user, string sql)
    {
        await using var source = NpgsqlDataSource.Create(TestRoles.As(user, database.AdminConnectionString));
        await using var command = source.CreateCommand(sql);
        try
        {
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            return null;
        }
        catch (PostgresException e)
        {
            return e.SqlState;
        }
    }
}
