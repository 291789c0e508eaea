using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Unique;

// How jobs are compared: who holds up whom, what it reads, what is refused, and what a person sees of it.
public sealed class SettlementTests
{
    private static readonly UniqueJob Rule = UniqueJob.WhileWaiting("7");

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fault("J12", "somebody holds the row of a job that waits, or a trigger of the application's refuses one", "its key alone is held up, and goes on by itself")]
    [Fact]
    public async Task What_is_locked_or_refused_holds_up_its_own_key_alone()
    {
        await using var keys = await Keys.OpenAsync();
        var locked = await keys.SettledAsync(Rule);
        await keys.Database.ExecuteAsync("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'Not this one.'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON outbox.jobs FOR EACH ROW WHEN (OLD.unique_key = 'bad') EXECUTE FUNCTION refuse();
            """);
        await using var connection = await keys.Database.Admin.OpenConnectionAsync(Cancellation);
        await using (var holder = await connection.BeginTransactionAsync(Cancellation))
        {
            await using var hold = new NpgsqlCommand($"SELECT FROM outbox.jobs WHERE id = '{locked}' FOR UPDATE", connection, holder);
            await hold.ExecuteNonQueryAsync(Cancellation);
            var held = await keys.EnqueueAsync(Rule);
            var bad = await keys.EnqueueAsync(UniqueJob.WhileWaiting("bad"));
            var good = await keys.EnqueueAsync(UniqueJob.WhileWaiting("good"));
            Assert.Equal(1, await keys.SettleAsync());
            Assert.Equal(("blocked", "blocked", "waiting"), (await keys.StateAsync(held), await keys.StateAsync(bad), await keys.StateAsync(good)));
        }

        await keys.Database.ExecuteAsync("DROP TRIGGER refuse ON outbox.jobs");
        Assert.Equal(1, await keys.SettleAsync());
        Assert.Equal(0, await keys.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.all_jobs WHERE state = 'blocked'"));
    }

    // Two callers, each with a job of the same key in hand; the second waits, and reads what is true then, whatever the sessions' default is.
    [Theory]
    [InlineData("read committed")]
    [InlineData("repeatable read")]
    public async Task Two_callers_with_the_same_key_come_one_after_the_other(string isolation)
    {
        await using var keys = await Keys.OpenAsync();
        await keys.Database.ExecuteAsync($"ALTER DATABASE {keys.Database.Name} SET default_transaction_isolation = '{isolation}'");
        NpgsqlConnection.ClearAllPools();
        var first = await keys.EnqueueAsync(Rule);
        await using var connection = await keys.Database.Admin.OpenConnectionAsync(Cancellation);
        await using var begun = await connection.BeginTransactionAsync(Cancellation);
        await using var settle = new NpgsqlCommand("SELECT outbox.settle_unique_jobs()", connection, begun);
        await settle.ExecuteNonQueryAsync(Cancellation);
        var second = await keys.EnqueueAsync(Rule);
        var other = keys.SettleAsync();
        await Eventually.TrueAsync(
            async () => other.IsCompleted || await keys.Database.ScalarAsync<long>("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 1, "it waits");
        await begun.CommitAsync(Cancellation);
        Assert.Equal(0, await other);
        Assert.Equal("met first", await keys.StateAsync(second, ("first", first)));
    }

    // 100,000 that wait, 50,000 of other keys in the history; plans that were made when there was nothing, and new ones by statistics that saw all of
    // them blocked.
    [Fact]
    public async Task A_comparison_reads_a_few_pages_whatever_else_there_is()
    {
        await using var keys = await Keys.OpenAsync();
        await using var connection = await keys.Database.DataSource.OpenConnectionAsync(Cancellation);
        UniqueJob[] rules = [Rule, UniqueJob.WhileUnfinished("7"), UniqueJob.Within("7", TimeSpan.FromHours(1)), UniqueJob.Throttle("7", TimeSpan.FromHours(1))];
        foreach (var rule in rules)
        {
            await keys.EnqueueAsync(rule);
            await keys.Queue.SettleUniqueAsync(connection, Cancellation);
        }

        await keys.Database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, priority, unique_key, unique_rule)
            SELECT outbox.new_job_id(), 'number', '{}', -2, 'key ' || n, '{"rule": "waiting"}' FROM generate_series(1, 100000) AS n;
            ANALYZE outbox.jobs;
            UPDATE outbox.jobs SET priority = 2;
            INSERT INTO outbox.job_history (id, run_at, created_at, claimed_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, unique_key)
            SELECT outbox.new_job_id(), now(), now(), now(), 1, 2, 20, 0, 0, 'completed', 'default', 'number', 'key ' || n FROM generate_series(1, 50000) AS n;
            """);
        await keys.Database.ExecuteAsync("VACUUM outbox.jobs");
        await using var later = await keys.Database.DataSource.OpenConnectionAsync(Cancellation);
        foreach (var session in new[] { connection, later })
        {
            foreach (var rule in rules)
                await keys.EnqueueAsync(rule);
            await using var transaction = await session.BeginTransactionAsync(Cancellation);
            var before = await ReadAsync(session);
            await using (var settle = new NpgsqlCommand("SELECT released FROM outbox.settle_unique_jobs()", session, transaction))
                Assert.NotNull(await settle.ExecuteScalarAsync(Cancellation));
            Assert.InRange(await ReadAsync(session) - before, 1, 500);
            await transaction.CommitAsync(Cancellation);
        }

        static async Task<long> ReadAsync(NpgsqlConnection connection)
        {
            await using var read = new NpgsqlCommand("""
                SELECT sum(pg_stat_get_xact_blocks_fetched(class.oid) + CASE WHEN class.relkind = 'r' THEN 1000000 * pg_stat_get_xact_numscans(class.oid) ELSE 0 END)::bigint
                FROM pg_class AS class WHERE class.relnamespace = 'outbox'::regnamespace AND class.relkind IN ('r', 'i')
                """, connection);
            return (long)(await read.ExecuteScalarAsync(Cancellation))!;
        }
    }

    [Fault("D08", "strange unique keys and rules, in SQL", "refused where they are written, with what is wrong")]
    [Theory]
    [InlineData("-2, '', '{\"rule\": \"waiting\"}', NULL", "its unique key has 0 characters")]
    [InlineData("-2, repeat('x', 201), '{\"rule\": \"waiting\"}', NULL", "its unique key has 201 characters")]
    [InlineData("2, '7', '{\"rule\": \"waiting\"}', NULL", "its priority 2 lets it run before it was compared with others")]
    [InlineData("-2, '7', '{\"rule\": \"waiting\"}', '{\"00000000-0000-7000-8000-000000000001\": \"success\"}'", "it has a unique key, and waits for other jobs")]
    [InlineData("-2, '7', NULL, NULL", "its unique rule NULL cannot be used")]
    [InlineData("-2, '7', '7', NULL", "its unique rule '7' cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"often\"}', NULL", "cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"within\"}', NULL", "cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"debounce\", \"delay\": null}', NULL", "cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"debounce\", \"period\": \"1 s\"}', NULL", "cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"throttle\", \"period\": \"-1 s\"}', NULL", "cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"throttle\", \"period\": \"2 years\"}', NULL", "cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"debounce\", \"delay\": \"2 s\", \"max\": \"1 s\"}', NULL", "cannot be used")]
    [InlineData("-2, '7', '{\"rule\": \"within\", \"period\": \"soon\"}', NULL", "invalid input syntax for type interval")]
    [InlineData("-2, '7', '{\"rule\": \"debounce\", \"delay\": \"2 s\", \"since\": \"infinity\"}', NULL", "job_moment_is_of_the_years_1_to_9999")]
    [InlineData("-2, NULL, '{\"rule\": \"waiting\"}', NULL", "has no workflow or no parents")]
    public async Task A_row_that_cannot_be_compared_is_refused_where_it_is_written(string values, string says)
    {
        await using var keys = await Keys.OpenAsync();
        var error = await Assert.ThrowsAsync<PostgresException>(() => keys.Database.ExecuteAsync(
            $"INSERT INTO outbox.jobs (id, kind, args, priority, unique_key, unique_rule, depends_on) VALUES (gen_random_uuid(), 'number', '{{}}', {values})"));
        Assert.Contains(says, error.MessageText, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_child_of_a_workflow_and_the_jobs_of_a_schedule_have_no_key_and_a_job_that_others_wait_for_may()
    {
        await using var keys = await Keys.OpenAsync();
        JobWorkflow flow = new();
        var root = flow.Add(new NumberJob(1), new() { Unique = Rule });
        var error = Assert.Throws<InvalidJobException>(() => flow.Add(new NumberJob(2), new() { Unique = Rule }, after: root));
        Assert.StartsWith("Job 'number' cannot be enqueued: it is unique by a key, and waits for other jobs.", error.Message, StringComparison.Ordinal);
        error = await Assert.ThrowsAsync<InvalidJobException>(() => new JobAdmin(keys.Database.Operator).SetScheduleAsync(
            new() { Name = "s", Cron = "@daily" }, new NumberJob(1), new() { Unique = Rule }, Cancellation));
        Assert.StartsWith("Schedule 's' cannot be used: its jobs would be unique by a key.", error.Message, StringComparison.Ordinal);

        // It meets another one, and what waits for its success ends with it; what waits for its end does not.
        var child = flow.Add(new NumberJob(2), after: root);
        var always = flow.Add(new NumberJob(3), after: root.Always);
        await keys.SettledAsync(Rule);
        await keys.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await keys.SettleAsync();
        await using var connection = await keys.Database.DataSource.OpenConnectionAsync(Cancellation);
        await keys.Queue.SettleAsync(connection, null, Cancellation);
        Assert.Equal(("cancelled", "waiting"), (await keys.StateAsync(child.Id), await keys.StateAsync(always.Id)));
    }

    [Fact]
    public async Task A_person_sees_which_job_met_which_and_what_is_not_compared_yet()
    {
        await using var keys = await Keys.OpenAsync();
        JobInspector inspector = new(keys.Database.Inspector);
        var first = await keys.EnqueueAsync(Rule);
        Assert.Equal("It waits to be compared with others of its unique key 7, and is as soon as a worker notices.", (await inspector.ExplainAsync(first, Cancellation))!.Why);
        await keys.SettleAsync();
        var second = await keys.SettledAsync(Rule);
        var row = Assert.Single(await inspector.UniqueJobsAsync(Cancellation));
        Assert.Equal((second, "number", "7", "waiting", first), (row.JobId, row.Kind, row.UniqueKey, row.Rule, row.MetId));
        var why = (await inspector.ExplainAsync(second, Cancellation))!.Why;
        Assert.StartsWith("It will not run: cancelled at ", why, StringComparison.Ordinal);
        Assert.EndsWith($"Job {first} has the same unique key, and stands for this one.", why, StringComparison.Ordinal);
        var found = await new JobInspector(keys.Database.Operator).FindAsync(second, Cancellation);
        Assert.Equal(("7", first), (found!.UniqueKey, found.MetId));
        Assert.Contains("\"type\": \"unique\"", found.Errors, StringComparison.Ordinal);
        Assert.Empty(await inspector.DeadAsync(Cancellation));
        Assert.Contains(await inspector.StoryAsync(second, Cancellation), each => each.Detail == $"unique: Job {first} has the same unique key, and stands for this one.");
    }
}
