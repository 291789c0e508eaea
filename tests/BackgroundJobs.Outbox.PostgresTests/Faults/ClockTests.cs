using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.TestWorker;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

// The database's clock is set: everything it has written moves the other way.
public sealed class ClockTests
{
    [Fault("W17", "every lease ends at the same moment", "all run again, each with its effect once")]
    [Fault("W34", "the database's clock jumps an hour ahead, three times", "the same")]
    [Fault("W36", "three workers with one host name and process id", "three workers")]
    [Fact]
    public async Task W17_W34_W36_when_every_lease_ends_at_once_all_jobs_run_again_and_none_has_its_effect_twice()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE effects (id uuid NOT NULL)");
        ConcurrentDictionary<Guid, int> starts = new();
        List<WorkerHost> workers = [];
        try
        {
            // Three in one process: the same host, the same process id, and yet three workers.
            for (var n = 0; n < 3; n++)
                workers.Add(await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(RunAsync), o => o.PollInterval = TimeSpan.FromMilliseconds(300)));
            await workers[0].Queue.EnqueueAsync([.. Enumerable.Range(0, 200).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
            for (var jump = 1; jump <= 3; jump++)
            {
                var done = jump * 30;
                await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM effects") >= done, "they work");
                await database.ExecuteAsync("UPDATE outbox.workers SET heartbeat_at = heartbeat_at - interval '1 hour'");
            }

            await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all are done", 60);
            Assert.Equal("200|200", await database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(DISTINCT id)) FROM effects"));
            Assert.Equal("200|completed|completed", await database.ScalarAsync<string>("SELECT concat_ws('|', count(DISTINCT id), min(state), max(state)) FROM outbox.job_history"));
        }
        finally
        {
            foreach (var worker in workers)
                await worker.DisposeAsync();
        }

        async Task RunAsync(NumberJob job, JobContext context, CancellationToken token)
        {
            starts.AddOrUpdate(context.JobId, 1, (_, before) => before + 1);
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, token);
            await using var connection = await database.DataSource.OpenConnectionAsync(token);
            await using var transaction = await connection.BeginTransactionAsync(token);
            await using (var effect = new NpgsqlCommand("INSERT INTO effects VALUES ($1)", connection, transaction) { Parameters = { new() { Value = context.JobId } } })
                await effect.ExecuteNonQueryAsync(token);
            await context.CompleteAsync(transaction, token);
            await transaction.CommitAsync(token);
        }
    }

    [Fault("W33", "one worker's clock is an hour ahead, another's an hour behind", "no early run, no lease ended early: the database's clock decides")]
    [Fact]
    public async Task W33_a_workers_own_clock_decides_nothing()
    {
        Assert.SkipWhen(ShiftedClock.Library is null, "libfaketime is not installed (apt-get install faketime).");
        await using var database = await ScratchDatabase.MigratedAsync();
        await WorkerProcess.PrepareAsync(database);
        var folder = Directory.CreateTempSubdirectory("outbox-clock-");
        try
        {
            List<WorkerProcess> workers = [];
            foreach (var shift in new[] { "+3600", "-3600" })
            {
                var file = Path.Combine(folder.FullName, shift);
                await File.WriteAllTextAsync(file, shift, TestContext.Current.CancellationToken);
                workers.Add(await WorkerProcess.StartAsync(database, lease: 2, clockFile: file));
            }

            await using var first = workers[0];
            await using var second = workers[1];
            await new JobQueue(database.DataSource).EnqueueAsync(
                [
                    .. Enumerable.Range(0, 100).Select(n => NewJob.Create(new SlowJob(n, 500))),
                    .. Enumerable.Range(100, 10).Select(n => NewJob.Create(new SlowJob(n, 0), new() { Delay = TimeSpan.FromSeconds(3) })),
                ],
                TestContext.Current.CancellationToken);
            await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all are done", 60);
            Assert.Equal("110|1|0|0", await database.ScalarAsync<string>(
                "SELECT concat_ws('|', count(*), max(attempt), max(failures), max(crashes)) FROM outbox.job_history WHERE state = 'completed'"));
            Assert.Equal("0|2", await database.ScalarAsync<string>(
                "SELECT concat_ws('|', count(*) FILTER (WHERE runs.at < history.run_at), count(DISTINCT process_id)) FROM runs JOIN outbox.job_history AS history ON history.id = job_id"));
            Assert.True(await database.ScalarAsync<bool>("SELECT max(run_at - created_at) BETWEEN '2.9 s' AND '3.1 s' FROM outbox.job_history"));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fault("W35", "the database's clock is set back an hour", "a dead worker's jobs are free within two leases")]
    [Fact]
    public async Task W35_a_dead_workers_jobs_are_free_within_two_leases_although_the_clock_was_set_back_an_hour()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        var dead = await Workers.RegisterAsync(database, TimeSpan.FromSeconds(1));
        Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 10, dead, ["number"])));
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask), o => o.HeartbeatInterval = TimeSpan.FromMilliseconds(500));

        await database.ExecuteAsync("UPDATE outbox.workers SET heartbeat_at = heartbeat_at + interval '1 hour', started_at = started_at + interval '1 hour'");
        await database.ExecuteAsync("UPDATE outbox.jobs SET claimed_at = claimed_at + interval '1 hour', created_at = created_at + interval '1 hour'");
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 1, "it runs again", 15);
        Assert.DoesNotContain("declared dead", worker.Log.Text, StringComparison.OrdinalIgnoreCase);
    }

    [Fault("W35", "the same, and somebody looks", "no negative duration")]
    [Fact]
    public async Task W35_no_inspection_query_shows_a_negative_duration_after_the_clock_was_set_back()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1)), NewJob.Create(new NumberJob(2))], TestContext.Current.CancellationToken);
        var worker = await Workers.RegisterAsync(database, TimeSpan.FromSeconds(30));
        Assert.Single(await queue.ClaimAsync(ClaimRequest.Everything("default", 1, worker, ["number"])));
        await database.ExecuteAsync("UPDATE outbox.workers SET heartbeat_at = heartbeat_at + interval '1 hour', started_at = started_at + interval '1 hour'");
        await database.ExecuteAsync("UPDATE outbox.jobs SET claimed_at = claimed_at + interval '1 hour', created_at = created_at + interval '1 hour'");

        var inspector = new JobInspector(database.Inspector);
        var running = Assert.Single(await inspector.RunningAsync(cancellationToken: TestContext.Current.CancellationToken));
        Assert.True(running.RunningFor >= TimeSpan.Zero, $"running for {running.RunningFor}");
        Assert.All(await inspector.OldestWaitingAsync(cancellationToken: TestContext.Current.CancellationToken), each => Assert.True(each.WaitingFor >= TimeSpan.Zero, $"waiting for {each.WaitingFor}"));
        Assert.All(await inspector.QueuesAsync(cancellationToken: TestContext.Current.CancellationToken), each => Assert.True(each.WaitingFor is not { Ticks: < 0 }, $"waiting for {each.WaitingFor}"));
    }
}
