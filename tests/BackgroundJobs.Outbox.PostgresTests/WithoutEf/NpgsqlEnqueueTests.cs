using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Dapper;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.WithoutEf;

public sealed class NpgsqlEnqueueTests
{
    [Theory]
    [InlineData(true, 1)]
    [InlineData(false, 0)]
    public async Task With_Dapper_a_job_and_its_row_are_both_there_or_neither(bool commit, long rows)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE servers (id bigint GENERATED ALWAYS AS IDENTITY, name text)");
        var queue = new JobQueue(database.DataSource);
        await using (var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken))
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            var id = await connection.ExecuteScalarAsync<int>("INSERT INTO servers (name) VALUES (@name) RETURNING id", new { name = "a" }, transaction);
            await queue.EnqueueAsync(transaction, new NumberJob(id), cancellationToken: TestContext.Current.CancellationToken);
            if (commit)
                await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal($"{rows}|{rows}", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', (SELECT count(*) FROM servers), (SELECT count(*) FROM outbox.jobs WHERE args->>'number' = '1'))"));
    }

    [Fact]
    public async Task Twenty_thousand_jobs_go_in_with_one_statement()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await queue.EnqueueAsync(transaction, [.. Enumerable.Range(0, 20_000).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal("20000|19999|1", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', count(*), max((args->>'number')::integer), count(DISTINCT xmin::text)) FROM outbox.jobs"));
    }

    // Told that it failed, a caller would enqueue again.
    [Fact]
    public async Task A_hint_that_cannot_be_sent_after_the_commit_is_no_failure()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var proxy = FaultProxy.Before(database.ConnectionString);
        await using var source = NpgsqlDataSource.Create(proxy.ConnectionString);
        var queue = new JobQueue(source);
        await using var operators = NpgsqlDataSource.Create(TestRoles.As(TestRoles.Operator, proxy.ConnectionString));
        var admin = new JobAdmin(operators);
        await LosingTheHintAsync(() => queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken));
        await LosingTheHintAsync(() => queue.WakeAsync("default", cancellationToken: TestContext.Current.CancellationToken));
        await admin.PauseQueueAsync("default", cancellationToken: TestContext.Current.CancellationToken);
        await LosingTheHintAsync(async () => Assert.True(await admin.ResumeQueueAsync("default", TestContext.Current.CancellationToken)));
        await database.ExecuteAsync("""
            INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds) VALUES (gen_random_uuid(), 'w', 'h', 1, '1', '1 h', '{}', '{}');
            UPDATE outbox.jobs SET lease_token = gen_random_uuid(), worker_id = (SELECT id FROM outbox.workers), claimed_at = now();
            """);
        await LosingTheHintAsync(async () => Assert.Equal(new(0, 1), await admin.CancelAsync(JobFilter.Everything, cancellationToken: TestContext.Current.CancellationToken)));
        Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE cancel_requested_at IS NOT NULL"));

        async Task LosingTheHintAsync(Func<Task> act)
        {
            // The answer to notify.sql.
            proxy.LoseAnswer("NOTIFY");
            await act();
            Assert.True(proxy.HasLost);
        }
    }

    [Fact]
    public async Task Every_wish_reaches_its_column_and_a_delay_counts_from_the_databases_clock()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var id = Guid.NewGuid();
        await new JobQueue(database.DataSource).EnqueueAsync(
        [
            NewJob.Create(new NumberJob(7), new()
            {
                Id = id, Queue = "mail", Priority = 4, Delay = TimeSpan.FromMinutes(5), MaxAttempts = 3, Headers = new Dictionary<string, string> { ["a"] = "b" },
            }),
        ], TestContext.Current.CancellationToken);
        Assert.Equal($"{id}|mail|4|3|{{\"a\": \"b\"}}|00:05:00|scheduled", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', id, queue, priority, max_attempts, headers, run_at - created_at, state) FROM outbox.all_jobs"));
    }

    [Fault("E32", "the second insert of an id without EF", "it says so and writes nothing")]
    [Fact]
    public async Task E32_the_second_insert_of_an_id_says_that_it_is_there_already_and_writes_nothing()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var options = new EnqueueOptions { Id = Guid.NewGuid() };
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1), options)], TestContext.Current.CancellationToken);
        var error = await Assert.ThrowsAsync<DuplicateJobException>(
            () => queue.EnqueueAsync([NewJob.Create(new NumberJob(2)), NewJob.Create(new NumberJob(3), options)], TestContext.Current.CancellationToken));
        Assert.Contains("already", error.Message, StringComparison.Ordinal);
        Assert.Equal("1", await database.ScalarAsync<string>("SELECT string_agg(args->>'number', ',') FROM outbox.jobs"));
    }

    [Fact]
    public async Task A_database_without_our_schema_or_with_an_older_one_says_so()
    {
        await using var empty = await ScratchDatabase.EmptyAsync();
        var missing = await Assert.ThrowsAsync<OutboxSchemaException>(
            () => new JobQueue(empty.DataSource).EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken));
        Assert.Contains("Run the Migrator", missing.Message, StringComparison.Ordinal);

        await using var older = await ScratchDatabase.MigratedAsync();
        await older.ExecuteAsync("ALTER TABLE outbox.jobs DROP COLUMN traceparent CASCADE");
        var old = await Assert.ThrowsAsync<OutboxSchemaException>(
            () => new JobQueue(older.DataSource).EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken));
        Assert.Contains("older than this version", old.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(100)]
    [InlineData(3000)]
    public async Task Jobs_are_made_as_they_are_asked_for_once_and_one_that_cannot_be_made_leaves_none(int count)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var made = 0;
        IEnumerable<NewJob> Jobs(bool broken)
        {
            for (var n = 0; n < count; n++)
            {
                if (broken && n == count - 1)
                    throw new InvalidDataException("the last one");
                made++;
                yield return NewJob.Create(new NumberJob(n));
            }
        }

        await Assert.ThrowsAsync<InvalidDataException>(() => queue.EnqueueAsync(Jobs(broken: true), TestContext.Current.CancellationToken));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
        made = 0;
        await queue.EnqueueAsync(Jobs(broken: false), TestContext.Current.CancellationToken);
        Assert.Equal(count, made);
        Assert.Equal((long)count, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));

        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await Assert.ThrowsAsync<InvalidDataException>(() => queue.EnqueueAsync(transaction, Jobs(broken: true), TestContext.Current.CancellationToken));
        await transaction.RollbackAsync(TestContext.Current.CancellationToken);
        Assert.Equal((long)count, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fact]
    public async Task Many_jobs_are_stored_as_few_are_and_a_duplicate_among_them_leaves_none()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var runAt = new DateTimeOffset(2020, 1, 1, 0, 0, 0, TimeSpan.Zero);
        NewJob Job(int number) => NewJob.Create(new NumberJob(number), (number % 3) switch
        {
            0 => new() { Queue = "mail", Priority = 1, RunAt = runAt, Headers = new Dictionary<string, string> { ["h"] = "v" } },
            1 => new() { Delay = TimeSpan.FromHours(1), MaxAttempts = 3 },
            _ => null,
        });
        await queue.EnqueueAsync([.. Enumerable.Range(0, 9).Select(Job)], TestContext.Current.CancellationToken);
        await queue.EnqueueAsync([.. Enumerable.Range(9, 900).Select(Job)], TestContext.Current.CancellationToken);

        // Whatever their number: three kinds of rows, and each as often among the many as its share is.
        Assert.Equal(3L, await database.ScalarAsync<long>(
            "SELECT count(DISTINCT (queue, priority, CASE WHEN run_at < '2021-01-01' THEN run_at::text ELSE (run_at - created_at)::text END, max_attempts, headers)) FROM outbox.jobs"));
        Assert.Equal("303|303|909", await database.ScalarAsync<string>(
            """SELECT concat_ws('|', count(*) FILTER (WHERE headers = '{"h": "v"}'), count(*) FILTER (WHERE run_at = created_at + interval '1 hour'), count(DISTINCT args)) FROM outbox.jobs"""));

        var twice = Job(1000);
        await Assert.ThrowsAsync<DuplicateJobException>(
            () => queue.EnqueueAsync([.. Enumerable.Range(1001, 600).Select(Job), twice, twice], TestContext.Current.CancellationToken));
        Assert.Equal(909L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    [Fact]
    public async Task A_transaction_that_has_ended_takes_no_job()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        var ended = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
        await ended.CommitAsync(TestContext.Current.CancellationToken);
        await RefusedAsync();
        await ended.DisposeAsync();
        await RefusedAsync();
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));

        async Task RefusedAsync()
        {
            var error = await Assert.ThrowsAsync<OutboxException>(
                () => new JobQueue(database.DataSource).EnqueueAsync(ended, new NumberJob(1), cancellationToken: TestContext.Current.CancellationToken));
            Assert.Contains("transaction that has ended", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Completion_in_a_handlers_own_transaction_is_one_commit_with_its_effect_and_missing_it_is_a_failure()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE effects (n integer)");
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(
            async (job, context, token) =>
            {
                await using var connection = await database.DataSource.OpenConnectionAsync(token);
                await using var transaction = await connection.BeginTransactionAsync(token);
                await connection.ExecuteAsync("INSERT INTO effects VALUES (@number)", new { number = job.Number }, transaction);
                await context.CompleteAsync(transaction, token);
                if (job.Number == 1)
                    await transaction.CommitAsync(token);
            },
            kind => kind.Retry = RetryPolicy.None));
        var done = await worker.EnqueueAsync(new NumberJob(1));
        var forgotten = await worker.EnqueueAsync(new NumberJob(2));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 2, "both have ended");
        Assert.Equal("completed|dead|1", await database.ScalarAsync<string>(
            $"SELECT concat_ws('|', (SELECT state FROM outbox.all_jobs WHERE id = '{done}'), (SELECT state FROM outbox.all_jobs WHERE id = '{forgotten}'), (SELECT string_agg(n::text, ',') FROM effects))"));
        Assert.Contains("was not committed", await database.ScalarAsync<string>($"SELECT errors->0->>'message' FROM outbox.all_jobs WHERE id = '{forgotten}'"), StringComparison.Ordinal);
    }
}
