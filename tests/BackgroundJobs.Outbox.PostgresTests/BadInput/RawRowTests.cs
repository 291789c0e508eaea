using BackgroundJobs.Outbox.PostgresTests.Support;
using CsCheck;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.BadInput;

// Rows and calls of other programs. Each is refused with an error of its data (SQLSTATE class 22, 23 or 54), or is a job that runs or ends with
// a reason; never does it keep a worker from its neighbours.
public sealed class RawRowTests(ITestOutputHelper output)
{
    private const int Rows = 3000;
    private const int Calls = 2000;
    private const int Neighbours = 100;

    private static readonly Gen<string> Kinds = Corpus.Mostly("corpus", Gen.OneOf("nobody_knows", "system.diagnostics.process").Select(Corpus.Texts, (kind, text) => text.Length % 2 == 0 ? kind : text));

    private static readonly Gen<string> Objects = Corpus.Mostly("""{"a":"b"}""", Gen.OneOf("""{"a":{"b":[1]},"":null}""", "[]", "1", "{"));

    private static readonly Gen<string> Lists = Corpus.Mostly(
        "[]", Gen.OneOf("[1]", """[{"at":"x"},null,3,"4",[5]]""", "{}", "1", "null", "[1,2,3,4,5,6,7,8,9]", """[{"message":5,"type":{}}]"""));

    private static readonly Gen<string> Moments = Corpus.Mostly("2020-01-01 00:00Z", Corpus.Moments);

    private static readonly Gen<object[]> Row = Gen.Select(
        Gen.Select(Kinds, Corpus.Json, Objects, Corpus.Mostly("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Corpus.Texts)),
        Gen.Select(Lists, Corpus.Mostly("7", Corpus.Json), Moments, Moments),
        Gen.Select(Number(2), Number(3), Number(0), Number(0), Number(0)),
        (what, when, count) => new object[]
        {
            what.Item1, what.Item2, what.Item3, what.Item4, when.Item1, when.Item2, when.Item3, when.Item4, count.Item1, count.Item2, count.Item3, count.Item4, count.Item5,
        });

    [Fault("D02", "3,000 rows of another program, NUL and surrogates among them", "refused, or run, or dead with a reason; no neighbour lost")]
    [Fault("X01", "CLR type names as kinds", "no assembly is loaded")]
    [Fault("X03", "data that would choose a handler", "it cannot")]
    [Fault("X04", "payloads beyond every limit, inserted past the library", "refused by the database, or dead with a reason")]
    [Fact]
    public async Task D02_rows_that_another_program_wrote_are_refused_or_run_or_end_with_a_reason_and_no_neighbour_is_lost()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var refused = await InsertAsync(database, Row, Rows,
            """
            INSERT INTO outbox.jobs (id, kind, args, headers, traceparent, errors, saved_cursor, run_at, created_at, priority, max_attempts, attempt, failures, crashes)
            SELECT gen_random_uuid(), $1, $2::jsonb, $3::jsonb, $4, $5::jsonb, $6::jsonb, $7::timestamptz, $8::timestamptz, $9, $10, $11, $12, $13
            """);
        await RunAsync(database, refused, Rows);
    }

    // What no generator needs to find again: the first failed every claim of its queue with an overflow, the second lost the reason of its end.
    [Fault("W37", "attempt and failures at the end of their types", "the neighbours run")]
    [Theory]
    [InlineData("attempt", "2147483647")]
    [InlineData("failures", "32767")]
    [InlineData("headers", """'{"a":{"b":[1]}}'""")]
    [InlineData("saved_cursor", "'[1]'")]
    public async Task A_counter_at_its_end_or_a_strange_document_keeps_no_worker_from_the_others(string column, string value)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync(
            $$"""INSERT INTO outbox.jobs (id, kind, args, max_attempts, {{column}}) VALUES (gen_random_uuid(), 'corpus', '{"number":-1,"text":"fails"}', 1, {{value}})""");
        await RunAsync(database, 0, 1);
    }

    // The overflow failed the rescue of everybody's jobs, again and again.
    [Fact]
    public async Task A_job_at_the_end_of_its_crash_counter_keeps_no_rescue_from_the_others()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync(
            """
            INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds, heartbeat_at)
            VALUES (gen_random_uuid(), 'w', 'h', 1, '1', '1 s', '{}', '{}', now() - interval '1 minute');
            INSERT INTO outbox.jobs (id, kind, args, crashes, lease_token, worker_id, claimed_at)
            SELECT gen_random_uuid(), 'corpus', '{"number":1,"text":"a"}', crashes, gen_random_uuid(), workers.id, now()
            FROM outbox.workers
            CROSS JOIN unnest(ARRAY[0, 32767]) AS crashes;
            """);
        await RunAsync(database, 0, 2);
        Assert.Equal(
            ["completed 0", "dead 32767"],
            await database.TextsAsync("SELECT format('%s %s', state, crashes) FROM outbox.job_history WHERE kind = 'corpus' ORDER BY state"));
    }

    [Theory]
    [InlineData("run_at", "'4713-01-01 BC'")]
    [InlineData("run_at", "'294276-01-01'")]
    [InlineData("run_at", "'-infinity'")]
    [InlineData("created_at", "'4713-01-01 BC'")]
    [InlineData("created_at", "'infinity'")]
    [InlineData("errors", "'{}'")]
    [InlineData("errors", "'1'")]
    [InlineData("failures", "-1")]
    [InlineData("crashes", "-1")]
    [InlineData("kind", "'System.Diagnostics.Process, System'")]
    public async Task A_value_that_no_worker_could_read_is_refused_where_it_is_written(string column, string value)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var error = await Assert.ThrowsAsync<PostgresException>(() => database.ExecuteAsync(
            $"INSERT INTO outbox.jobs (id, args{(column == "kind" ? "" : ", kind")}, {column}) VALUES (gen_random_uuid(), '{{}}'{(column == "kind" ? "" : ", 'corpus'")}, {value})"));
        Assert.Equal(PostgresErrorCodes.CheckViolation, error.SqlState);
    }

    [Fault("D09", "2,000 calls of the SQL function with any queue, kind and number", "refused, or run, or dead with a reason")]
    [Fact]
    public async Task D09_calls_of_the_sql_function_are_refused_or_make_jobs_that_run_or_end_with_a_reason()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var call = Gen.Select(
            Gen.Select(Kinds, Corpus.Json, Corpus.Mostly("default", Corpus.Texts), Number(2)),
            Gen.Select(Moments, Corpus.Mostly("0", Gen.OneOf("-1 s", "1 microsecond", "178000000 years", "x")), Number(3), Objects),
            (what, when) => new object[] { what.Item1, what.Item2, what.Item3, what.Item4, when.Item1, when.Item2, when.Item3, when.Item4 });
        var refused = await InsertAsync(database, call, Calls,
            """
            SELECT CASE WHEN length($1) % 2 = 0
                THEN outbox.enqueue($1, $2::jsonb, queue => $3, priority => $4, run_at => $5::timestamptz, max_attempts => $7, headers => $8::jsonb)
                ELSE outbox.enqueue($1, $2::jsonb, queue => $3, priority => $4, delay => $6::interval, max_attempts => $7, headers => $8::jsonb) END
            """);
        await RunAsync(database, refused, Calls);
    }

    private static Gen<int> Number(int good) => Corpus.Mostly(good, Corpus.Numbers);

    private static async Task<int> InsertAsync(ScratchDatabase database, Gen<object[]> rows, int count, string sql)
    {
        var refused = 0;
        await using var connection = await database.Admin.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await rows.SampleAsync(
            async values =>
            {
                await using var insert = new NpgsqlCommand(sql, connection);
                foreach (var value in values)
                    insert.Parameters.Add(new() { Value = value });
                try
                {
                    await insert.ExecuteNonQueryAsync();
                }
                catch (PostgresException e) when (e.SqlState[..2] is "22" or "23" or "54")
                {
                    refused++;
                }
                catch (Exception e) when (e is ArgumentException or InvalidCastException)
                {
                    // Half a surrogate pair: no client can send it.
                    refused++;
                }
            },
            iter: count,
            threads: 1);
        return refused;
    }

    private async Task RunAsync(ScratchDatabase database, int refused, int count)
    {
        var loaded = 0;
        AssemblyLoadEventHandler onLoad = (_, e) => loaded += e.LoadedAssembly.GetName().Name is "System.Diagnostics.Process" or "System" ? 1 : 0;
        AppDomain.CurrentDomain.AssemblyLoad += onLoad;
        var ran = 0;
        await using var worker = await WorkerHost.StartAsync(
            database,
            outbox => outbox
                .Handle<CorpusJob>((job, context, _) =>
                {
                    // All that a handler may ask of its row.
                    Assert.NotNull(context.Headers);
                    context.Cursor<int?>();
                    return job.Number < 0 ? throw new InvalidOperationException(job.Text) : Task.CompletedTask;
                }, kind => kind.Retry = RetryPolicy.None)
                .Handle<NumberJob>((_, _, _) =>
                {
                    Interlocked.Increment(ref ran);
                    return Task.CompletedTask;
                }),
            worker => worker.HeartbeatInterval = TimeSpan.FromMilliseconds(200));
        await worker.Queue.EnqueueAsync(Enumerable.Range(0, Neighbours).Select(n => NewJob.Create(new NumberJob(n))), TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<bool>("SELECT NOT EXISTS (SELECT FROM outbox.jobs WHERE queue = 'default' AND kind IN ('corpus', 'number') AND run_at <= now())"),
            "all that is due and known has ended");
        await worker.StopAsync();
        AppDomain.CurrentDomain.AssemblyLoad -= onLoad;

        Assert.Equal(Neighbours, ran);
        Assert.Equal(0, loaded);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL"));
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'dead' AND coalesce(errors -> -1 ->> 'type', '') = ''"));
        var ended = await database.TextsAsync("SELECT format('%s %s', state, count(*)) FROM outbox.job_history WHERE kind = 'corpus' GROUP BY state ORDER BY state");
        output.WriteLine($"{count} cases: {refused} refused, {string.Join(", ", ended)}, the rest not due or of kinds that nobody knows; {Neighbours} neighbours ran.");
    }
}
