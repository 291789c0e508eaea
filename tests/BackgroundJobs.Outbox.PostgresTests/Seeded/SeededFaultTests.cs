using System.Globalization;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Seeded;

// Two workers and an enqueuer of whose statements a fifth fails, before or after it took effect, or is late. More seeds:
//   OUTBOX_SEEDS=1000 ./test.sh --filter-class '*SeededFaultTests'
public sealed class SeededFaultTests(ITestOutputHelper output)
{
    private const int Each = 25;
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(2);

    // Those of failures stay here for good; then as many as are asked for, new ones each day.
    public static TheoryData<int> Seeds =>
    [
        1, 2, 3,
        .. Enumerable.Range(0, int.Parse(Environment.GetEnvironmentVariable("OUTBOX_SEEDS") ?? "1", CultureInfo.InvariantCulture))
            .Select(n => (TimeProvider.System.GetUtcNow().DayOfYear * 10_000) + n),
    ];

    [Fact]
    public void A_seed_means_the_same_faults_in_every_process()
    {
        string[] points = ["claim", "claim answered", "finish", "beat"];
        Assert.Equal(
            "FFLNVLNNLL FNVNNNNNNV LNNNNNNLNN NNFNLFNNNV",
            string.Join(' ', points.Select(point => string.Concat(Enumerable.Range(1, 10).Select(n => $"{SeededFaults.Decide(7, point, n)}"[0])))));
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task Whatever_fails_each_job_ends_as_it_must_and_has_its_effect_once(int seed)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE effects (id uuid NOT NULL); CREATE TABLE steps (id uuid NOT NULL, step integer NOT NULL); CREATE TABLE kept (id uuid NOT NULL, step integer NOT NULL)");
        List<SeededFaults> faults = [.. Enumerable.Range(0, 3).Select(n => new SeededFaults((seed * 3) + n, Lease))];
        List<NewJob> jobs = [];
        for (var n = 0; n < Each; n++)
        {
            foreach (var what in new[] { "plain", "effect", "flaky", "doomed", "snooze", "steps", "kept" })
                jobs.Add(NewJob.Create(new OtherJob(what), new() { Headers = new Dictionary<string, string> { ["what"] = what }, MaxAttempts = what == "doomed" ? 3 : 1000 }));
        }

        await using var first = await StartAsync(faults[0]);
        await using var second = await StartAsync(faults[1]);
        await EnqueueAsync(faults[2], jobs);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended", 90);
        var attempts = await database.ScalarAsync<long>("SELECT sum(attempt)::bigint FROM outbox.job_history");
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Seed {seed}: {faults.Sum(each => each.Injected)} faults, {jobs.Count} jobs, {attempts} attempts."));

        // Nothing lost, nothing twice; a fault of the database is no failure of a job whose handler does not meet it.
        Assert.Equal(
            """
            doomed dead 25 3
            effect completed 25
            flaky completed 25 2
            kept completed 25
            plain completed 25 0
            snooze completed 25 0
            steps completed 25 0
            """.ReplaceLineEndings("\n"),
            string.Join('\n', await database.TextsAsync("""
                SELECT concat_ws(' ', headers->>'what', state, count(*), CASE WHEN headers->>'what' NOT IN ('effect', 'kept') THEN string_agg(DISTINCT failures::text, ',') END)
                FROM outbox.job_history
                GROUP BY headers->>'what', state
                ORDER BY 1
                """)));
        Assert.Equal($"{jobs.Count}", await database.ScalarAsync<string>("SELECT count(DISTINCT id)::text FROM outbox.job_history"));
        Assert.Equal("25|25", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(DISTINCT id)) FROM effects"));
        Assert.Equal("75|25|3", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(DISTINCT id), count(DISTINCT step)) FROM kept"));
        Assert.Equal("25|3", await database.ScalarAsync<string>("SELECT concat_ws('|', count(DISTINCT id), count(DISTINCT step)) FROM steps"));

        Task<WorkerHost> StartAsync(SeededFaults mine) => WorkerHost.StartAsync(
            database,
            o =>
            {
                o.FaultPoint = mine.AtAsync;
                o.Handle<OtherJob>((job, context, token) => RunAsync(job.Text, context, token), kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(50)));
            },
            o =>
            {
                (o.Lease, o.HeartbeatInterval, o.PollInterval) = (Lease, Lease / 4, TimeSpan.FromMilliseconds(250));

                // Leases are lost on purpose here: no job is a suspect for that.
                o.MaxCrashes = 1000;
            });

        async Task RunAsync(string what, JobContext context, CancellationToken token)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, token);
            switch (what)
            {
                case "effect":
                    await using (var connection = await database.DataSource.OpenConnectionAsync(token))
                    {
                        await using var transaction = await connection.BeginTransactionAsync(token);
                        await using (var effect = new NpgsqlCommand("INSERT INTO effects VALUES ($1)", connection, transaction) { Parameters = { new() { Value = context.JobId } } })
                            await effect.ExecuteNonQueryAsync(token);
                        await context.CompleteAsync(transaction, token);
                        await transaction.CommitAsync(CancellationToken.None);
                    }

                    break;
                case "flaky" when context.Failures < 2:
                    throw new InvalidOperationException("again");
                case "doomed":
                    throw new InvalidOperationException("always");
                case "snooze" when context.Attempt == 1:
                    context.Snooze(TimeSpan.FromMilliseconds(100));
                    break;
                case "kept":
                    for (var step = 1; step <= 3; step++)
                    {
                        if (context.TryGetStep($"step-{step}", out int _))
                            continue;
                        await using var connection = await database.DataSource.OpenConnectionAsync(token);
                        await using var transaction = await connection.BeginTransactionAsync(token);
                        await using (var effect = new NpgsqlCommand("INSERT INTO kept VALUES ($1, $2)", connection, transaction) { Parameters = { new() { Value = context.JobId }, new() { Value = step } } })
                            await effect.ExecuteNonQueryAsync(token);
                        await context.SaveStepAsync(transaction, $"step-{step}", step, token);
                        await transaction.CommitAsync(CancellationToken.None);
                    }

                    break;
                case "steps":
                    for (var step = context.Cursor<int>() + 1; step <= 3; step++)
                    {
                        await using (var command = database.DataSource.CreateCommand("INSERT INTO steps VALUES ($1, $2)"))
                        {
                            command.Parameters.Add(new() { Value = context.JobId });
                            command.Parameters.Add(new() { Value = step });
                            await command.ExecuteNonQueryAsync(token);
                        }

                        context.SafeExitPoint(step);
                    }

                    break;
            }
        }

        // Does what an application does that must know: the same ids again, until it is there.
        async Task EnqueueAsync(SeededFaults mine, List<NewJob> all)
        {
            JobQueue queue = new(database.DataSource, new OutboxOptions { FaultPoint = mine.AtAsync });
            foreach (var chunk in all.Chunk(10))
            {
                for (var isThere = false; !isThere;)
                {
                    try
                    {
                        await queue.EnqueueAsync(chunk, TestContext.Current.CancellationToken);
                        isThere = true;
                    }
                    catch (DuplicateJobException)
                    {
                        isThere = true;
                    }
                    catch (NpgsqlException)
                    {
                        // Whether they are there, nobody said.
                    }
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task Whatever_fails_each_tick_is_one_job(int seed)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("""
            INSERT INTO outbox.schedules (name, kind, args, cron, missed)
            SELECT 's' || n, 'other', '{"text": "tick"}', '* * * * * *', 'all' FROM generate_series(1, 5) AS n
            """);
        List<SeededFaults> faults = [.. Enumerable.Range(0, 2).Select(n => new SeededFaults((seed * 2) + n, Lease))];
        await using var first = await StartAsync(faults[0]);
        await using var second = await StartAsync(faults[1]);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.schedule_ticks") >= 50, "they tick", 60);
        await database.ExecuteAsync("UPDATE outbox.schedules SET paused_at = now()");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended", 60);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Seed {seed}: {faults.Sum(each => each.Injected)} faults."));

        Assert.Equal("0|0|0", await database.ScalarAsync<string>("""
            SELECT concat_ws(
                '|',
                (SELECT count(*) FROM outbox.schedule_ticks WHERE (SELECT count(*) FROM outbox.job_history WHERE id = job_id AND state = 'completed') <> 1),
                (SELECT count(*) FROM outbox.job_history WHERE id NOT IN (SELECT job_id FROM outbox.schedule_ticks)),
                (SELECT count(*) FROM (SELECT FROM outbox.schedule_ticks GROUP BY schedule HAVING extract(epoch FROM max(tick_at) - min(tick_at)) + 1 <> count(*)) AS gaps))
            """));

        Task<WorkerHost> StartAsync(SeededFaults mine) => WorkerHost.StartAsync(
            database,
            o =>
            {
                o.FaultPoint = mine.AtAsync;
                o.Handle<OtherJob>((_, _, _) => Task.CompletedTask);
            },
            o => (o.Lease, o.HeartbeatInterval, o.PollInterval, o.MaxCrashes) = (Lease, Lease / 4, TimeSpan.FromMilliseconds(250), 1000));
    }
}
