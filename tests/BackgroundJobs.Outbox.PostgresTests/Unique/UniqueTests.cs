using System.Collections.Concurrent;
using System.Diagnostics;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Unique;

// Jobs of which one is enough: by every way in, beside each other, and run by workers.
public sealed class UniqueTests(ITestOutputHelper output)
{
    private static readonly UniqueJob Rule = UniqueJob.WhileWaiting("7");

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fault("J09", "two transactions enqueue the same key at the same time", "neither waits for the other; one job runs")]
    [Fact]
    public async Task Two_transactions_with_the_same_key_do_not_wait_for_each_other_and_one_job_is_let_go()
    {
        await using var keys = await Keys.OpenAsync();
        await using var open = await keys.BeginAsync();
        var first = await keys.Queue.EnqueueAsync(open, new NumberJob(1), new() { Unique = Rule }, Cancellation);
        await using (var impatient = await keys.BeginAsync())
        {
            await using var patience = new NpgsqlCommand("SET LOCAL lock_timeout = '1ms'", impatient.Connection, impatient);
            await patience.ExecuteNonQueryAsync(Cancellation);
            await keys.Queue.EnqueueAsync(impatient, new NumberJob(2), new() { Unique = Rule }, Cancellation);
            await impatient.CommitAsync(Cancellation);
        }

        // Nor does who settles wait for the open one, nor it for who settles.
        Assert.Equal(1, await keys.SettleAsync());
        await open.CommitAsync(Cancellation);
        Assert.Equal(0, await keys.SettleAsync());
        Assert.StartsWith("met ", await keys.StateAsync(first), StringComparison.Ordinal);
    }

    // The update that other queues lose: theirs is skipped because one waits, and that one begins before this is committed.
    [Fault("J10", "the job that waits begins before the one that met it is committed", "both run: the second sees what the first did not")]
    [Fact]
    public async Task One_that_begins_before_another_is_committed_does_not_stand_for_it()
    {
        await using var keys = await Keys.OpenAsync();
        var waits = await keys.SettledAsync(Rule);
        await using var open = await keys.BeginAsync();
        var mine = await keys.Queue.EnqueueAsync(open, new NumberJob(2), new() { Unique = Rule }, Cancellation);
        await keys.ClaimAsync(waits);
        await open.CommitAsync(Cancellation);
        await keys.SettleAsync();
        Assert.Equal("waiting", await keys.StateAsync(mine));

        // And as long as nobody knows whether it has begun, nothing is decided.
        await using var claim = await keys.BeginAsync();
        await using var begin = new NpgsqlCommand($"UPDATE outbox.jobs SET lease_token = gen_random_uuid(), worker_id = gen_random_uuid(), claimed_at = now() WHERE id = '{mine}'", claim.Connection, claim);
        await begin.ExecuteNonQueryAsync(Cancellation);
        var next = await keys.SettledAsync(Rule);
        Assert.Equal("blocked", await keys.StateAsync(next));
        await claim.CommitAsync(Cancellation);
        await keys.SettleAsync();
        Assert.Equal("waiting", await keys.StateAsync(next));
    }

    // Counted up in each transaction that enqueues; who runs reads it.
    [Theory]
    [InlineData("waiting")]
    [InlineData("replace")]
    [InlineData("debounce")]
    public async Task Whatever_is_committed_with_a_job_is_seen_by_one_that_begins_after_it(string rule)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE counters (n integer NOT NULL); INSERT INTO counters VALUES (0); GRANT ALL ON counters TO PUBLIC");
        UniqueJob unique = rule switch
        {
            "waiting" => UniqueJob.WhileWaiting("7"),
            "replace" => UniqueJob.Replace("7"),
            _ => UniqueJob.Debounce("7", TimeSpan.FromMilliseconds(20), max: TimeSpan.FromMilliseconds(100)),
        };
        ConcurrentQueue<int> seen = [];
        Action<OutboxOptions> handlers = o => o.Handle<NumberJob>(async (_, _, _) => seen.Enqueue(await database.ScalarAsync<int>("SELECT n FROM counters")));
        await using var worker = await WorkerHost.StartAsync(database, handlers);
        await using var other = await WorkerHost.StartAsync(database, handlers);
        await Parallel.ForEachAsync(Enumerable.Range(0, 300), new ParallelOptions { MaxDegreeOfParallelism = 6, CancellationToken = Cancellation }, async (n, token) =>
        {
            await using var connection = await database.Admin.OpenConnectionAsync(token);
            await using var transaction = await connection.BeginTransactionAsync(token);
            await worker.Queue.EnqueueAsync(transaction, new NumberJob(n), new() { Unique = unique }, token);
            await using var count = new NpgsqlCommand("UPDATE counters SET n = n + 1", connection, transaction);
            await count.ExecuteNonQueryAsync(token);
            await transaction.CommitAsync(token);
            await worker.Queue.WakeAsync("default", cancellationToken: token);
        });
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended");
        output.WriteLine($"{seen.Count} of 300 ran");
        Assert.Equal(300, seen.Max());
        Assert.Equal(300, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed' OR met_id IS NOT NULL"));
        Assert.InRange(seen.Count, 1, 250);
    }

    [Fact]
    public async Task By_every_way_in_one_of_each_key_runs()
    {
        await using var keys = await Keys.OpenAsync();
        await keys.Database.ExecuteAsync("CREATE TABLE servers (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL); GRANT ALL ON servers TO PUBLIC");
        await using (var db = new ServerContext(keys.Database.ConnectionString))
        {
            Server server = new() { Name = "db-1" };
            db.Add(server);
            db.Enqueue(new NumberJob(1), new() { Unique = UniqueJob.WhileWaiting("ef") });
            db.Enqueue(() => new NumberJob((int)server.Id), new() { Unique = UniqueJob.WhileWaiting("ef") });
            await db.SaveChangesAsync(Cancellation);
        }

        await keys.Queue.EnqueueAsync([.. Enumerable.Range(0, 3).Select(n => NewJob.Create(new NumberJob(n), new() { Unique = UniqueJob.WhileWaiting("array") })), NewJob.Create(new NumberJob(9))], Cancellation);
        await keys.Queue.EnqueueAsync(Enumerable.Range(0, 600).Select(n => NewJob.Create(new NumberJob(n), new() { Unique = UniqueJob.Debounce("copy", TimeSpan.FromHours(1)) })), Cancellation);
        await using (var command = keys.Database.Enqueuer.CreateCommand("""
            INSERT INTO outbox.jobs (id, kind, args, priority, unique_key, unique_rule)
            SELECT outbox.new_job_id(), 'number', '{"number": 1}', -2, 'raw', '{"rule": "within", "period": "1 hour"}' FROM generate_series(1, 2)
            """))
        {
            await command.ExecuteNonQueryAsync(Cancellation);
        }

        await keys.SettleAsync();
        Assert.Equal(
            ["array 2 0 ", "copy 599 1 1", "ef 1 0 ", "none 0 0 ", "raw 1 0 "],
            await keys.Database.TextsAsync("""
                SELECT format('%s %s %s %s', coalesce(job.unique_key, 'none'), past.jobs, (run_at > now())::int, CASE WHEN unique_rule ? 'since' THEN 1 END)
                FROM outbox.jobs AS job
                CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM outbox.job_history WHERE unique_key = job.unique_key AND met_id IS NOT NULL) AS past
                ORDER BY 1
                """));
    }

    // By the signal inside the process, and by NOTIFY alone, as from another one.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_job_with_a_key_begins_soon_after_its_commit(bool byNotifyAlone)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentDictionary<int, long> began = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((job, _, _) =>
            {
                began[job.Number] = Stopwatch.GetTimestamp();
                return Task.CompletedTask;
            }),
            o => o.PollInterval = TimeSpan.FromSeconds(30));
        await worker.EnqueueAsync(new NumberJob(-1));
        await Eventually.TrueAsync(() => began.ContainsKey(-1), "it is warm");

        List<double> took = [];
        for (var n = 0; n < 30; n++)
        {
            if (byNotifyAlone)
            {
                await database.ExecuteAsync($$"""
                    INSERT INTO outbox.jobs (id, kind, args, priority, unique_key, unique_rule)
                    VALUES (gen_random_uuid(), 'number', '{"number": {{n}}}', -2, '{{n}}', '{"rule": "waiting"}')
                    """);
            }
            else
            {
                await worker.EnqueueAsync(new NumberJob(n), new() { Unique = UniqueJob.WhileWaiting($"{n}") });
            }

            var committed = Stopwatch.GetTimestamp();
            if (byNotifyAlone)
                await database.ExecuteAsync("NOTIFY outbox_jobs, 'settle'");
            await Eventually.TrueAsync(() => began.ContainsKey(n), "it has begun");
            took.Add(Stopwatch.GetElapsedTime(committed, began[n]).TotalMilliseconds);
        }

        took.Sort();
        output.WriteLine($"commit to start: median {took[15]:0.0} ms, longest {took[^1]:0.0} ms");
        Assert.InRange(took[15], -1000, 500);
    }

    [Fault("J11", "the process dies between the commit of a job with a key and its comparison", "another one's heartbeat makes up for it")]
    [Fact]
    public async Task What_nobody_was_told_of_is_found_by_a_heartbeat()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await database.ExecuteAsync("""
            INSERT INTO outbox.jobs (id, kind, args, priority, unique_key, unique_rule) VALUES (gen_random_uuid(), 'number', '{"number": 1}', -2, '7', '{"rule": "waiting"}')
            """);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 1, "it has run");
    }

    [Fact]
    public async Task Who_waits_for_a_job_that_met_another_waits_for_that_one()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((job, context, _) =>
        {
            context.Result(job.Number);
            return Task.CompletedTask;
        }));
        JobQueue queue = new(database.Enqueuer);
        List<NewJob> jobs = [.. Enumerable.Range(0, 20).Select(n => NewJob.Create(new NumberJob(n), new() { Unique = UniqueJob.Debounce("7", TimeSpan.FromMilliseconds(200)) }))];
        foreach (var job in jobs)
            await queue.EnqueueAsync([job], Cancellation);
        var ended = await queue.WaitAsync(jobs[0].Id, TimeSpan.FromSeconds(20), Cancellation);
        Assert.Equal(JobState.Cancelled, ended.State);
        while (ended.Met is { } met)
            ended = await queue.WaitAsync(met, TimeSpan.FromSeconds(20), Cancellation);
        Assert.Equal((JobState.Completed, 19), (ended.State, ended.Result<int>()));
    }

    private sealed class Server
    {
        public long Id { get; set; }

        public string Name { get; set; } = "";
    }

    private sealed class ServerContext(string connectionString) : DbContext
    {
        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseNpgsql(connectionString).UseOutbox();

        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.Entity<Server>(server =>
        {
            server.ToTable("servers");
            server.Property(each => each.Id).HasColumnName("id");
            server.Property(each => each.Name).HasColumnName("name");
        });
    }
}
