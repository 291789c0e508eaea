using System.Diagnostics;
using System.Globalization;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.HowToFail;

// Somebody looked, and production stood still.
public sealed class DebuggingTests
{
    private const int JobsPerRound = 250_000;
    private const int Rounds = 3;

    [Fact]
    public async Task Naive_a_look_that_locks_stops_the_workers()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
        await using (var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken))
        {
            await using var look = new NpgsqlCommand("LOCK TABLE outbox.jobs IN SHARE MODE; SELECT count(*) FROM outbox.jobs", connection, transaction);
            await look.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            using var limit = new CancellationTokenSource(TimeSpan.FromMilliseconds(500), TimeProvider.System);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => worker.Queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], limit.Token));
        }
    }

    [Fact]
    public async Task Ours_every_inspection_query_left_open_in_a_debugger_stops_nobody()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        List<NpgsqlConnection> looks = [];
        try
        {
            foreach (var file in Directory.GetFiles(Repository.PathOf("queries"), "*.sql"))
            {
                looks.Add(await database.Inspector.OpenConnectionAsync(TestContext.Current.CancellationToken));
                var text = await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken);
                await using var look = new NpgsqlCommand(text[..text.LastIndexOf("COMMIT", StringComparison.Ordinal)], looks[^1]);
                await look.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            }

            var sessions = string.Join(',', looks.Select(each => each.ProcessID));
            var locks = await database.ScalarAsync<string>($"SELECT string_agg(DISTINCT mode, ',') FROM pg_locks WHERE locktype = 'relation' AND pid IN ({sessions})");
            Assert.Equal("AccessShareLock", locks);
            await worker.Queue.EnqueueAsync([.. Enumerable.Range(1, 1_000).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
            await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 1_000, "all are done");
        }
        finally
        {
            foreach (var look in looks)
                await look.DisposeAsync();
        }
    }

    // What the workers lose by it is a ratio of two noisy rates: the benchmark's, not a test's. What the looks use is read off here.
    [Fact]
    public async Task Ours_every_inspection_query_at_once_under_load_takes_less_than_a_twentieth_of_the_machine()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));

        // One session for all looks, so that what it uses can be read off.
        await using var eyes = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(TestRoles.As(TestRoles.Inspector, database.AdminConnectionString)) { MaxPoolSize = 1 }.ConnectionString);
        await using var whoami = eyes.CreateCommand("SELECT pg_backend_pid()");
        var session = (int)(await whoami.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
        var file = $"/proc/{session}/stat";
        Assert.SkipUnless(File.Exists(file) && (await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken)).Contains("(postgres)", StringComparison.Ordinal), "The server's processes cannot be seen from here.");

        // The first round makes the history that the others look at.
        var (looks, seconds, used) = (0, 0.0, 0.0);
        for (var round = 0; round <= Rounds; round++)
        {
            var before = ProcessorSeconds(file);
            var measured = await DrainAsync(database, worker.Queue, eyes);
            if (round == 0)
                continue;
            used += ProcessorSeconds(file) - before;
            seconds += measured.Seconds;
            looks += measured.Looks;
        }

        var share = used / (seconds * Environment.ProcessorCount);
        TestContext.Current.TestOutputHelper?.WriteLine($"{looks} looks in {seconds:F1} s took {share:P1} of the machine.");
        Assert.InRange(looks, Rounds, int.MaxValue);
        Assert.InRange(share, 0.0001, 0.05);
    }

    // Of one server process.
    private static double ProcessorSeconds(string file)
    {
        var text = File.ReadAllText(file);
        var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        const double TicksPerSecond = 100;
        return (long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture)) / TicksPerSecond;
    }

    // Seconds of one round, and how often somebody looked in it.
    private static async Task<(double Seconds, int Looks)> DrainAsync(ScratchDatabase database, JobQueue queue, NpgsqlDataSource eyes)
    {
        await queue.EnqueueAsync([.. Enumerable.Range(1, JobsPerRound).Select(n => NewJob.Create(new NumberJob(n), new() { Delay = TimeSpan.FromSeconds(4) }))]);
        await database.ExecuteAsync("ANALYZE outbox.jobs");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM outbox.jobs WHERE run_at <= now())"), "they are due");
        using var ended = new CancellationTokenSource();
        var watch = Stopwatch.StartNew();
        var looking = LookAsync(eyes, ended.Token);
        await Eventually.TrueAsync(async () => !await database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM outbox.jobs)"), "all are done", 60);
        var seconds = watch.Elapsed.TotalSeconds;
        await ended.CancelAsync();
        return (seconds, await looking);
    }

    // Everything there is to look at, all of it every five seconds, as a wall of dashboards does.
    private static async Task<int> LookAsync(NpgsqlDataSource eyes, CancellationToken ended)
    {
        var inspector = new JobInspector(eyes);
        var looks = 0;
        while (!ended.IsCancellationRequested)
        {
            await inspector.CountsAsync(CancellationToken.None);
            await inspector.OldestWaitingAsync(CancellationToken.None);
            await inspector.RunningAsync(CancellationToken.None);
            await inspector.DeadAsync(CancellationToken.None);
            await inspector.RetryingAsync(CancellationToken.None);
            await inspector.FailingKindsAsync(CancellationToken.None);
            await inspector.ThroughputAsync(CancellationToken.None);
            await inspector.TableHealthAsync(CancellationToken.None);
            await inspector.WorkersAsync(CancellationToken.None);
            await inspector.QueuesAsync(CancellationToken.None);
            looks++;
            await Task.Delay(TimeSpan.FromSeconds(5), TimeProvider.System, ended).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        return looks;
    }
}
