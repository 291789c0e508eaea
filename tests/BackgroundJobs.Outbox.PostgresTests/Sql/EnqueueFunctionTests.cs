using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Sql;

// outbox.enqueue and its neighbours, as triggers, psql and other languages see them.
public sealed class EnqueueFunctionTests(SqlFileTests.Migrated migrated) : IClassFixture<SqlFileTests.Migrated>
{
    private readonly ScratchDatabase database = migrated.Database;

    [Fact]
    public async Task From_psql_with_every_argument()
    {
        var output = await database.PsqlAsync("-A", "-t", "-c", """
            SELECT outbox.enqueue(
                'send_mail', '{"to": 7}', queue => 'mails', priority => 1, delay => interval '1 hour', max_attempts => 3, headers => '{"tenant": "a"}',
                job_group => 'tenant 7', unique_key => 'mail 7', unique_rule => '{"rule": "within", "period": "60 s"}')
            """);
        var id = Guid.Parse(output.Trim());
        var row = await database.TextsAsync($$"""
            SELECT concat_ws(' ', kind, args, queue, priority, max_attempts, headers, run_at - created_at, attempt, lease_token IS NULL, job_group, unique_key, unique_rule ->> 'period')
            FROM outbox.jobs WHERE id = '{{id}}'
            """);
        Assert.Equal(["send_mail {\"to\": 7} mails -1 3 {\"tenant\": \"a\"} 01:00:00 0 t tenant 7 mail 7 60 s"], row);
    }

    [Fact]
    public async Task By_position_the_arguments_mean_what_they_meant_and_a_job_has_neither_group_nor_key_unless_it_is_said()
    {
        var id = Guid.NewGuid();
        await database.ExecuteAsync($"SELECT outbox.enqueue('by_position', '{{}}', 'mails', 3, NULL, interval '1 hour', 7, '{{\"a\": \"b\"}}', '{id}')");
        Assert.Equal(
            ["mails 3 01:00:00 7 {\"a\": \"b\"} t"],
            await database.TextsAsync($"""
                SELECT concat_ws(' ', queue, priority, run_at - created_at, max_attempts, headers, num_nulls(job_group, unique_key, unique_rule) = 3)
                FROM outbox.jobs WHERE id = '{id}'
                """));
    }

    [Fact]
    public async Task Of_those_with_one_key_one_is_run()
    {
        await using var own = await ScratchDatabase.MigratedAsync();
        await own.ExecuteAsync("SELECT outbox.enqueue('number', jsonb_build_object('number', n), unique_key => 'one') FROM generate_series(1, 3) AS n");
        await using var worker = await WorkerHost.StartAsync(own, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => await own.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended");
        Assert.Equal("1|2", await own.ScalarAsync<string>("SELECT concat_ws('|', count(*) FILTER (WHERE state = 'completed'), count(met_id)) FROM outbox.job_history"));
    }

    [Fact]
    public async Task A_job_waits_for_its_parents_and_one_that_cannot_is_refused()
    {
        await using var own = await ScratchDatabase.MigratedAsync();
        var (flow, parent) = (Guid.NewGuid(), Guid.NewGuid());
        await own.ExecuteAsync($$"""
            BEGIN;
            SELECT outbox.enqueue('number', '{"number": 1}', delay => interval '1 s', id => '{{parent}}', workflow_id => '{{flow}}');
            SELECT outbox.enqueue('number', '{"number": 2}', workflow_id => '{{flow}}', depends_on => '{"{{parent}}": "success"}');
            COMMIT
            """);
        Assert.Equal(["scheduled", "blocked"], await own.TextsAsync("SELECT state FROM outbox.all_jobs ORDER BY args ->> 'number'"));
        foreach (var (arguments, message) in new[]
        {
            ($$"""depends_on => '{"{{parent}}": "success"}'""", "it has no workflow or no parents"),
            ($$"""workflow_id => '{{flow}}', depends_on => '{}'""", "it has no workflow or no parents"),
            ($$"""workflow_id => '{{flow}}', depends_on => '{"{{flow}}": "success"}'""", $"its workflow {flow} has no job {flow}"),
            ($$"""workflow_id => '{{flow}}', depends_on => '{"{{parent}}": "success"}', unique_key => 'k'""", "it has a unique key, and waits for other jobs"),
        })
        {
            var error = await Assert.ThrowsAsync<PostgresException>(() => own.ExecuteAsync($"SELECT outbox.enqueue('number', {arguments})"));
            Assert.Contains(message, error.MessageText, StringComparison.Ordinal);
        }

        System.Collections.Concurrent.ConcurrentQueue<int> ran = [];
        await using var worker = await WorkerHost.StartAsync(own, o => o.Handle<NumberJob>((job, _, _) =>
        {
            ran.Enqueue(job.Number);
            return Task.CompletedTask;
        }));
        await Eventually.TrueAsync(() => ran.Count == 2, "both run");
        Assert.Equal([1, 2], ran);
    }

    [Fact]
    public async Task From_a_trigger_the_job_lives_and_dies_with_the_row()
    {
        await database.ExecuteAsync("""
            CREATE TABLE servers (id bigint GENERATED ALWAYS AS IDENTITY, name text);
            CREATE FUNCTION boot_it() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM outbox.enqueue('boot_server', jsonb_build_object('serverId', NEW.id));
                RETURN NEW;
            END
            $$;
            CREATE TRIGGER boot AFTER INSERT ON servers FOR EACH ROW EXECUTE FUNCTION boot_it();
            """);
        await database.ExecuteAsync("BEGIN; INSERT INTO servers (name) VALUES ('a'), ('b'); ROLLBACK");
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE kind = 'boot_server'"));
        await database.ExecuteAsync("INSERT INTO servers (name) VALUES ('a'), ('b')");
        Assert.Equal(
            await database.TextsAsync("SELECT id::text FROM servers ORDER BY id"),
            await database.TextsAsync("SELECT args ->> 'serverId' FROM outbox.jobs WHERE kind = 'boot_server' ORDER BY id"));
    }

    [Fact]
    public async Task A_role_that_may_do_nothing_else_can_enqueue()
    {
        var role = $"producer_{Guid.NewGuid():n}";
        await database.ExecuteAsync($"CREATE ROLE {role}");
        try
        {
            // Nothing is granted yet: neither the schema nor the function is open to everyone.
            await RefusedAsync(role, "SELECT outbox.enqueue('a_kind')");
            await database.ExecuteAsync($"GRANT USAGE ON SCHEMA outbox TO {role}");
            await RefusedAsync(role, "SELECT outbox.enqueue('a_kind')");
            await database.ExecuteAsync(
                $"GRANT EXECUTE ON FUNCTION outbox.enqueue(text, jsonb, text, integer, timestamptz, interval, integer, jsonb, uuid, text, text, jsonb, uuid, jsonb) TO {role}");

            var before = await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs");
            await database.ExecuteAsync($"BEGIN; SET LOCAL ROLE {role}; SELECT outbox.enqueue('a_kind'); COMMIT");
            Assert.Equal(before + 1, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));

            await RefusedAsync(role, "SELECT count(*) FROM outbox.jobs");
            await RefusedAsync(role, "SELECT count(*) FROM outbox.all_jobs");
            await RefusedAsync(role, "INSERT INTO outbox.jobs (id, kind, args) VALUES (gen_random_uuid(), 'a', '{}')");
            await RefusedAsync(role, "DELETE FROM outbox.jobs");
            await RefusedAsync(role, "SELECT outbox.maintain_history(1, interval '1 day')");
        }
        finally
        {
            await database.ExecuteAsync($"DROP OWNED BY {role}; DROP ROLE {role}");
        }
    }

    [Theory]
    [InlineData("'Bad Kind'", "Job kind 'Bad Kind' cannot be used", "Use 1 to 63 characters")]
    [InlineData("NULL", "Job kind NULL cannot be used", "Use 1 to 63 characters")]
    [InlineData("'a', queue => ''", "Queue name '' cannot be used", "Use 1 to 63 characters")]
    [InlineData("'a', '[1]'", "Job 'a' cannot be enqueued: its args are no JSON object", "Pass an object")]
    [InlineData("'a', jsonb_build_object('t', repeat('x', 70000))", "its args are 70009 bytes, more than the 65536 allowed", "pass its key")]
    [InlineData("'a', headers => '[]'", "its headers are no JSON object of at most 16384 bytes", "Pass an object of small texts")]
    [InlineData("'a', priority => 5", "priority 5 is out of range", "Use 1 (first) to 4 (last)")]
    [InlineData("'a', max_attempts => 0", "max attempts 0 is out of range", "Use 1 to 1000")]
    [InlineData("'a', run_at => now(), delay => interval '1 s'", "both run_at and delay are given", "Give one of them")]
    [InlineData("'a', run_at => 'infinity'", "run_at is no moment", "not infinity")]
    [InlineData("'a', delay => interval '-1 s'", "delay is negative", "zero or more")]
    [InlineData("'a', job_group => ''", "its group has 0 characters", "Use 1 to 200, or NULL for none")]
    [InlineData("'a', job_group => repeat('x', 201)", "its group has 201 characters", "Use 1 to 200, or NULL for none")]
    [InlineData("'a', unique_key => ''", "its unique key has 0 characters", "Use 1 to 200")]
    [InlineData("'a', unique_key => 'k', unique_rule => '{\"rule\": \"never\"}'", "its unique rule '{\"rule\": \"never\"}' cannot be used", "Use {\"rule\": \"waiting\"}")]
    [InlineData("'a', unique_key => 'k', unique_rule => NULL", "its unique rule NULL cannot be used", "Use {\"rule\": \"waiting\"}")]
    [InlineData("'a', delay => interval '1 s', unique_key => 'k', unique_rule => '{\"rule\": \"debounce\", \"delay\": \"5 s\"}'", "it is debounced, which says when it runs", "Leave them out")]
    public async Task A_bad_argument_is_told_with_what_to_do(string arguments, string message, string hint)
    {
        var before = await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs");
        var error = await Assert.ThrowsAsync<PostgresException>(() => database.ExecuteAsync($"SELECT outbox.enqueue({arguments})"));
        Assert.Equal(PostgresErrorCodes.InvalidParameterValue, error.SqlState);
        Assert.Contains(message, error.MessageText, StringComparison.Ordinal);
        Assert.Contains(hint, error.Hint, StringComparison.Ordinal);
        Assert.Equal(before, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fact]
    public async Task A_new_job_id_is_a_uuid_v7_of_this_moment_and_later_ones_are_greater()
    {
        var ids = (await database.TextsAsync("SELECT outbox.new_job_id()::text FROM generate_series(1, 1000)")).ConvertAll(Guid.Parse);
        var now = await database.ScalarAsync<DateTime>("SELECT clock_timestamp()");
        Assert.All(ids, id => Assert.Equal((7, 8), (id.Version, id.Variant & 0xC)));
        var milliseconds = Convert.ToInt64(ids[^1].ToString("n")[..12], 16);
        Assert.InRange(DateTimeOffset.FromUnixTimeMilliseconds(milliseconds).UtcDateTime, now.AddMinutes(-1), now);

        // Within a microsecond or two they may stand in any order; over a millisecond they may not.
        var later = new List<string>();
        for (var i = 0; i < 5; i++)
            later.AddRange(await database.TextsAsync("SELECT outbox.new_job_id()::text FROM pg_sleep(0.002)"));
        Assert.Equal(later.Order(StringComparer.Ordinal), later);
    }

    [Fault("X19", "finished jobs grow old", "their days are dropped, after 14 days unless said otherwise")]
    [Fault("P30", "retention drops days of history", "unfinished jobs are in another table")]
    [Fact]
    public async Task History_partitions_are_made_ahead_and_dropped_after_their_time()
    {
        await using var own = await ScratchDatabase.MigratedAsync();
        const string Partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox.job_history'::regclass";

        // Midnight may have passed since the schema was made.
        await MaintainAsync(3, "14 days");
        var before = await own.ScalarAsync<long>(Partitions);
        Assert.Equal("4 0", await MaintainAsync(7, "14 days"));
        Assert.Equal("0 0", await MaintainAsync(7, "14 days"));

        // An old day, and a stray row in the safety net.
        await own.ExecuteAsync("""
            CREATE TABLE outbox.job_history_20200101 PARTITION OF outbox.job_history FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00');
            INSERT INTO outbox.job_history (id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind)
            SELECT gen_random_uuid(), at, at, at, 1, 2, 20, 0, 0, 'completed', 'default', 'a'
            FROM unnest(ARRAY['2020-01-01 12:00+00', '2020-01-05 12:00+00']::timestamptz[]) AS at
            """);
        Assert.Equal("2 1", await own.ScalarAsync<string>("SELECT count(*) || ' ' || count(*) FILTER (WHERE tableoid = 'outbox.job_history_default'::regclass) FROM outbox.job_history"));
        Assert.Equal("0 1", await MaintainAsync(7, "14 days"));
        Assert.Equal(0L, await own.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history"));
        Assert.Equal(before + 4, await own.ScalarAsync<long>(Partitions));

        // A partition that is made later has the indexes of the first ones.
        Assert.Equal(
            await own.ScalarAsync<long>("SELECT count(*) FROM pg_indexes WHERE tablename = 'job_history'"),
            await own.ScalarAsync<long>("SELECT count(*) FROM pg_indexes WHERE tablename = 'job_history_' || to_char((now() AT TIME ZONE 'UTC')::date + 7, 'YYYYMMDD')"));

        async Task<string> MaintainAsync(int days, string retention) =>
            await own.ScalarAsync<string>($"SELECT concat_ws(' ', made, dropped) FROM outbox.maintain_history({days}, interval '{retention}')");
    }

    private async Task RefusedAsync(string role, string sql)
    {
        var error = await Assert.ThrowsAsync<PostgresException>(() => database.ExecuteAsync($"BEGIN; SET LOCAL ROLE {role}; {sql}; COMMIT"));
        Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, error.SqlState);
    }
}
