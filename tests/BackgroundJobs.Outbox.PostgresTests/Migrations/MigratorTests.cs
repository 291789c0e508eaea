using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Migrations;

public sealed class MigratorTests
{
    private const string SecondBody = "-- Why: a test.\nCREATE TABLE outbox.second (id integer);";

    private static readonly string[] Ours = [.. Migration.Embedded("outbox").Select(migration => migration.Name)];

    private static readonly string Next = $"{Ours.Length + 1:0000}";

    private static readonly string AfterNext = $"{Ours.Length + 2:0000}";

    [Fault("P28", "eight processes migrate an empty database at once", "each migration once")]
    [Fact]
    public async Task Eight_at_once_on_an_empty_database_apply_each_migration_once()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var sources = Enumerable.Range(0, 8).Select(_ => NpgsqlDataSource.Create(database.ConnectionString)).ToList();
        var applied = await Task.WhenAll(sources.Select(source => Task.Run(() => new Migrator(source).MigrateAsync())));
        sources.ForEach(source => source.Dispose());

        Assert.Equal(Ours, applied.SelectMany(names => names).Order());
        Assert.Equal(Ours.Length, await database.ScalarAsync<long>("SELECT count(DISTINCT name) FROM outbox.migrations WHERE NOT breaking"));
    }

    [Fact]
    public async Task Migrating_again_changes_nothing()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        Assert.Equal(Ours, await Migrator.MigrateAsync(database.ConnectionString));
        var before = await SchemaDump.OfAsync(database, "outbox");
        Assert.Empty(await Migrator.MigrateAsync(database.ConnectionString));
        Assert.Equal(before, await SchemaDump.OfAsync(database, "outbox"));
        Assert.Equal(Ours.Length, await new Migrator(database.Admin).GetVersionAsync());
    }

    [Fact]
    public async Task A_migration_that_fails_leaves_nothing_of_itself_and_keeps_those_before_it()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var migrator = Knowing(database, Migration.Parse($"{Next}_break_it.sql", SecondBody + "\nSELECT 1 / 0;"));
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => migrator.MigrateAsync());
        Assert.Contains($"{Next}_break_it", error.Message, StringComparison.Ordinal);
        Assert.Contains("division by zero", error.Message, StringComparison.Ordinal);
        Assert.Equal(Ours.Length, await migrator.GetVersionAsync());
        Assert.Null(await database.ScalarAsync<string?>("SELECT to_regclass('outbox.second')::text"));

        Assert.Equal([$"{Next}_mend_it"], await Knowing(database, Migration.Parse($"{Next}_mend_it.sql", SecondBody)).MigrateAsync());
    }

    [Fact]
    public async Task Through_a_transaction_pooler_four_at_once_apply_each_migration_once()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await using var bouncer = await PgBouncer.StartAsync(database.ConnectionString);
        await using var source = NpgsqlDataSource.Create(bouncer.ConnectionString);
        var applied = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => new Migrator(source).MigrateAsync())));
        Assert.Equal(Ours, applied.SelectMany(names => names).Order());
        await new Migrator(source).CheckAsync();
        Assert.Equal(0L, await database.ScalarAsync<long>(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"));
    }

    [Theory]
    [InlineData("order")]
    [InlineData("my_jobs")]
    public async Task Another_schema_name_works_also_a_reserved_word(string schema)
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var options = new OutboxOptions { Schema = schema };
        await new Migrator(database.Admin, options).MigrateAsync();
        await new Migrator(database.Admin, options).CheckAsync();

        Assert.Null(await database.ScalarAsync<string?>("SELECT to_regnamespace('outbox')::text"));
        var id = await database.ScalarAsync<Guid>($"SELECT \"{schema}\".enqueue('a_kind', '{{\"n\": 1}}')");
        Assert.Equal("a_kind", (await new JobInspector(database.Inspector, options).FindAsync(id))?.Kind);
        Assert.Equal(3, await database.ScalarAsync<int>($"SELECT made FROM \"{schema}\".maintain_history(6, interval '14 days')"));

        var file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, Migrator.Script(options));
        await database.PsqlAsync("-f", file);
        File.Delete(file);
        Assert.Equal(Ours.Length, await new Migrator(database.Admin, options).GetVersionAsync());
    }

    [Fact]
    public async Task No_schema_is_told_with_the_version_needed_and_what_to_do()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var migrator = new Migrator(database.Admin);
        Assert.Equal(0, await migrator.GetVersionAsync());
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => migrator.CheckAsync());
        Assert.Contains(database.Name, error.Message, StringComparison.Ordinal);
        Assert.Contains($"needs version {Ours.Length}", error.Message, StringComparison.Ordinal);
        Assert.Contains("MigrateAsync()", error.Message, StringComparison.Ordinal);
        Assert.Contains("outbox migrate", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_older_schema_is_told_with_both_versions()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(
            () => Knowing(database, Migration.Parse($"{Next}_add_second.sql", SecondBody)).CheckAsync());
        Assert.Contains($"is at version {Ours.Length}, and lacks {Next}_add_second", error.Message, StringComparison.Ordinal);
        Assert.Contains($"needs version {Ours.Length + 1}", error.Message, StringComparison.Ordinal);
        Assert.Contains("outbox migrate", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Jobs_of_the_first_schema_run_on_the_last_one()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await new Migrator(database.Admin, "outbox", [Migration.Embedded("outbox")[0]]).MigrateAsync();
        await database.ExecuteAsync("""
            SELECT outbox.enqueue('number', '{"number": 1}');
            INSERT INTO outbox.job_history (id, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, args)
            VALUES ('00000000-0000-7000-8000-000000000001', now(), now(), 3, 2, 20, 1, 0, 'dead', 'default', 'number', '{"number": 2}')
            """);
        Assert.Equal(Ours[1..], await Migrator.MigrateAsync(database.ConnectionString));
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, context, token) => context.StepAsync("a", _ => Task.FromResult(1), token)));
        Assert.True(await new JobAdmin(database.Admin).RetryAsync(new Guid("00000000-0000-7000-8000-000000000001"), TestContext.Current.CancellationToken));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 2, "both run");
    }

    [Fact]
    public async Task What_runs_while_the_holders_of_a_queue_are_moved_counts_as_running_also_where_an_older_worker_has_started_it()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await new Migrator(database.Admin, "outbox", [.. Migration.Embedded("outbox").Where(each => each.Version < 11)]).MigrateAsync();
        await new JobAdmin(database.Admin).SetLimitsAsync("default", new() { Concurrency = 2 }, TestContext.Current.CancellationToken);
        JobQueue queue = new(database.Admin);
        await queue.EnqueueAsync(Enumerable.Range(1, 5).Select(n => NewJob.Create(new NumberJob(n))), TestContext.Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database);
        Assert.Equal(1, await ClaimAsOneDidAsync());
        await Migrator.MigrateAsync(database.ConnectionString);
        Assert.Equal(1, await ClaimAsOneDidAsync());
        Assert.Empty(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, worker, ["number"]) with { Limited = true }));
        Assert.Equal(0, await ClaimAsOneDidAsync());

        Task<long> ClaimAsOneDidAsync() => database.ScalarAsync<long>($"""
            DO $$ BEGIN PERFORM outbox.file_groups('default', array_fill('-infinity'::timestamptz, ARRAY[4]), array_fill('00000000-0000-0000-0000-000000000000'::uuid, ARRAY[4]), 100); END $$;
            SELECT count(*) FROM outbox.claim_in_turn('default', 1, false, ARRAY['number'], '{worker}', 0, gen_random_uuid())
            """);
    }

    [Fact]
    public async Task Who_could_call_the_old_enqueue_function_can_call_the_new_one_also_in_a_session_that_has_called_the_old_one()
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        await new Migrator(database.Admin, "outbox", [.. Migration.Embedded("outbox").Where(each => each.Version < 9)]).MigrateAsync();
        var role = $"producer_{Guid.NewGuid():n}";
        await database.ExecuteAsync($"""
            CREATE ROLE {role};
            GRANT USAGE ON SCHEMA outbox TO {role};
            GRANT EXECUTE ON FUNCTION outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid) TO {role} WITH GRANT OPTION;
            """);
        try
        {
            await using var session = await database.Admin.OpenConnectionAsync();
            await ExecuteAsync($"SET ROLE {role}; PREPARE enqueue AS SELECT outbox.enqueue('number', priority => 1); EXECUTE enqueue");
            await Migrator.MigrateAsync(database.ConnectionString);
            await ExecuteAsync("EXECUTE enqueue");
            Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE kind = 'number' AND priority = 1"));
            Assert.Equal(
                [$"{role} true"],
                await database.TextsAsync("""
                    SELECT acl.grantee::regrole || ' ' || acl.is_grantable FROM pg_proc AS proc CROSS JOIN LATERAL aclexplode(proc.proacl) AS acl
                    WHERE proc.pronamespace = 'outbox'::regnamespace AND proc.proname = 'enqueue' AND acl.grantee <> proc.proowner
                    """));

            async Task ExecuteAsync(string sql)
            {
                await using var command = new NpgsqlCommand(sql, session);
                await command.ExecuteNonQueryAsync();
            }
        }
        finally
        {
            await database.ExecuteAsync($"DROP OWNED BY {role}; DROP ROLE {role}");
        }
    }

    [Fault("P29", "a newer schema than the library's", "fine until it is marked as breaking; then the worker says so")]
    [Fact]
    public async Task A_newer_schema_is_fine_until_a_migration_says_that_it_breaks_older_workers()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var old = new Migrator(database.Admin);
        await Knowing(database, Migration.Parse($"{Next}_add_second.sql", SecondBody)).MigrateAsync();
        await old.CheckAsync();
        Assert.Empty(await old.MigrateAsync());

        await Knowing(
            database,
            Migration.Parse($"{Next}_add_second.sql", SecondBody),
            Migration.Parse($"{AfterNext}_drop_second.sql", "-- Why: a test.\n-- breaking: yes\nDROP TABLE outbox.second;")).MigrateAsync();
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => old.CheckAsync());
        Assert.Contains($"is at version {Ours.Length + 2}", error.Message, StringComparison.Ordinal);
        Assert.Contains($"knows up to {Ours.Length}", error.Message, StringComparison.Ordinal);
        Assert.Contains($"{AfterNext}_drop_second", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_lock_that_another_session_holds_ends_in_a_clear_error_and_holds_up_nobody_for_long()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var other = await database.Admin.OpenConnectionAsync();
        await using var transaction = await other.BeginTransactionAsync();
        await using (var hold = new NpgsqlCommand("LOCK TABLE outbox.jobs IN ACCESS SHARE MODE", other, transaction))
            await hold.ExecuteNonQueryAsync();
        var migrator = Knowing(database, Migration.Parse($"{Next}_rename_column.sql", "-- Why: a test.\nALTER TABLE outbox.jobs RENAME COLUMN args TO arguments;"));
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => migrator.MigrateAsync());
        Assert.Contains("another session held a lock", error.Message, StringComparison.Ordinal);
        await transaction.RollbackAsync();
        Assert.Equal([$"{Next}_rename_column"], await migrator.MigrateAsync());
    }

    [Theory]
    [InlineData("outbox")]
    [InlineData("order")]
    public async Task A_role_that_may_not_create_schemas_migrates_one_that_was_made_for_it(string schema)
    {
        await using var database = await ScratchDatabase.EmptyAsync();
        var role = $"app_{Guid.NewGuid():n}";
        await database.ExecuteAsync($"CREATE ROLE {role} LOGIN PASSWORD 'app'");
        try
        {
            await using var source = NpgsqlDataSource.Create(
                new NpgsqlConnectionStringBuilder(database.ConnectionString) { Username = role, Password = "app", Pooling = false }.ConnectionString);
            var migrator = new Migrator(source, new OutboxOptions { Schema = schema });
            var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => migrator.MigrateAsync());
            Assert.Contains("permission denied for database", error.Message, StringComparison.Ordinal);

            await database.ExecuteAsync($"CREATE SCHEMA \"{schema}\" AUTHORIZATION {role}");
            Assert.Equal(Ours, await migrator.MigrateAsync());
            await migrator.CheckAsync();
        }
        finally
        {
            await database.ExecuteAsync($"DROP OWNED BY {role}; DROP ROLE {role}");
        }
    }

    private static Migrator Knowing(ScratchDatabase database, params Migration[] more) =>
        new(database.Admin, "outbox", [.. Migration.Embedded("outbox"), .. more]);
}
