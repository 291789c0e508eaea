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
    private const int Rounds = 4;

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
    public async Task Ours_every_inspection_query_at_once_under_load_takes_less_than_a_twentieth_of_the_throughput()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));

        // One session for all looks, so that what it uses can be read off.
        await using var eyes = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(database.ConnectionString) { MaxPoolSize = 1 }.ConnectionString);
        await using var whoami = eyes.CreateCommand("SELECT pg_backend_pid()");
        var session = (int)(await whoami.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
        await DrainAsync(database, worker.Queue, eyes);

        // Rounds in turn, so that what else this machine does falls on both.
        List<double> ratios = [];
        var (looks, seconds, used) = (0, 0.0, ProcessorSeconds(session));
        for (var round = 0; round < Rounds; round++)
        {
            var lookFirst = round % 2 == 1;
            var first = await DrainAsync(database, worker.Queue, lookFirst ? eyes : null);
            var second = await DrainAsync(database, worker.Queue, lookFirst ? null : eyes);
            var (plain, looked) = lookFirst ? (second, first) : (first, second);
            Assert.True(looked.Looks > 0, "Nobody looked while the round was measured.");
            looks += looked.Looks;
            seconds += looked.Seconds;
            ratios.Add(plain.Seconds / looked.Seconds);
        }

        // How much of the machine the looks took, which no noise changes; and that the throughput does not say otherwise: what this many
        // rounds of this spread can tell apart from 0.95 is below it only if looking costs more.
        used = ProcessorSeconds(session) - used;
        var share = used / (seconds * Environment.ProcessorCount);
        var mean = ratios.Average();
        var error = Math.Sqrt(ratios.Sum(each => (each - mean) * (each - mean)) / (Rounds - 1) / Rounds);
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{looks} looks in {seconds:F1} s took {share:P1} of the machine; throughput while looking: {mean:F3} +- {error:F3} of the one without ({string.Join(", ", ratios.Select(r => $"{r:F2}"))}).");
        Assert.InRange(share, 0, 0.05);
        Assert.InRange(mean + (2 * error), 0.95, double.MaxValue);
    }

    // Of one server process; NaN-free zero where the system does not tell (not Linux, or a server elsewhere): the throughput then speaks alone.
    private static double ProcessorSeconds(int processId)
    {
        var file = $"/proc/{processId}/stat";
        if (!File.Exists(file))
            return 0;
        var text = File.ReadAllText(file);
        var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        const double TicksPerSecond = 100;
        return (long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture)) / TicksPerSecond;
    }

    // Seconds of one round, and how often somebody looked in it.
    private static async Task<(double Seconds, int Looks)> DrainAsync(ScratchDatabase database, JobQueue queue, NpgsqlDataSource? eyes)
    {
        await queue.EnqueueAsync([.. Enumerable.Range(1, JobsPerRound).Select(n => NewJob.Create(new NumberJob(n), new() { Delay = TimeSpan.FromSeconds(4) }))]);
        await database.ExecuteAsync("ANALYZE outbox.jobs");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<bool>("SELECT EXISTS (SELECT FROM outbox.jobs WHERE run_at <= now())"), "they are due");
        using var ended = new CancellationTokenSource();
        var watch = Stopwatch.StartNew();
        var looking = eyes is null ? Task.FromResult(0) : LookAsync(eyes, ended.Token);
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
