using System.Net;
using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

// Workers live on while their server is replaced by one that has forgotten the last commits.
public sealed class FailoverTests
{
    private const string WithoutStandby = "This PostgreSQL comes without pg_basebackup, which makes a standby.";

    [Fault("P04", "a standby that has not heard the last commits is promoted", "entity and job are gone together; what it still knows as running is given back and runs again")]
    [Fault("P07", "a backup is restored under living workers", "the same")]
    [Theory]
    [InlineData("a standby that had not heard the end is promoted")]
    [InlineData("a standby that had not heard the end is promoted behind a pooler, whose sessions live on")]
    [InlineData("a backup is restored")]
    public async Task P04_P07_what_a_server_forgot_is_gone_with_its_data_and_what_it_still_knows_is_done_again(string how)
    {
        await using var server = await ChaosServer.StartAsync(maxConnections: 60, TestContext.Current.CancellationToken);
        Assert.SkipWhen(how.Contains("standby", StringComparison.Ordinal) && !server.CanMakeStandby, WithoutStandby);
        await ExecuteAsync(server, "CREATE TABLE things (id uuid PRIMARY KEY); CREATE TABLE ended (id uuid NOT NULL); GRANT ALL ON things, ended TO PUBLIC");
        var direct = server.ConnectionString(server.EndPoint.Port);
        await using var pooler = how.Contains("pooler", StringComparison.Ordinal) ? await PgBouncer.StartAsync(direct) : null;
        await using var database = ScratchDatabase.On(server.AdminConnectionString, pooler?.ConnectionString ?? direct);
        using var mayEnd = new SemaphoreSlim(0);
        TaskCompletionSource started = new(), zombieMayEnd = new(TaskCreationOptions.RunContinuationsAsynchronously), zombieEnded = new(), heirMayEnd = new(TaskCreationOptions.RunContinuationsAsynchronously);
        var zombies = 0;
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (job, context, token) =>
            {
                started.TrySetResult();
                if (job.Number == 1)
                    await mayEnd.WaitAsync(token);
                var turn = job.Number == 4 ? Interlocked.Increment(ref zombies) : 0;
                if (turn > 0)
                    await (turn == 1 ? zombieMayEnd : heirMayEnd).Task.WaitAsync(token);
                await using var connection = await database.DataSource.OpenConnectionAsync(token);
                await using var transaction = await connection.BeginTransactionAsync(token);
                await using (var effect = new NpgsqlCommand("INSERT INTO ended VALUES ($1)", connection, transaction) { Parameters = { new() { Value = context.JobId } } })
                    await effect.ExecuteNonQueryAsync(token);
                try
                {
                    await context.CompleteAsync(transaction, token);
                    await transaction.CommitAsync(token);
                }
                finally
                {
                    if (turn == 1)
                        zombieEnded.SetResult();
                }
            }),
            o => (o.PollInterval, o.Lease, o.HeartbeatInterval) = (TimeSpan.FromMinutes(2), TimeSpan.FromSeconds(40), TimeSpan.FromSeconds(1)));

        // It runs while the copy is made, and ends where only the old server sees it.
        var forgotten = await EnqueueAsync(1);
        await started.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
        var waits = await EnqueueAsync(4, TimeSpan.FromHours(1));
        var copy = how.Contains("standby", StringComparison.Ordinal) ? await StandbyAsync() : await BackupAsync();
        mayEnd.Release(5);
        await Eventually.TrueAsync(async () => await CountAsync("ended") == 1, "it ends on the old server", 30);
        var gone = await EnqueueAsync(2);
        await Eventually.TrueAsync(async () => await CountAsync("ended") == 2, "a new one ends on the old server", 30);

        // Claimed where only the old server sees it, as first attempt; the new one knows of no claim and gives it out as first attempt again.
        await MakeDueAsync(waits);
        await Eventually.TrueAsync(() => Volatile.Read(ref zombies) == 1, "one runs that was not claimed in the copy", 30);

        await server.StopAsync();
        database.Admin.Clear();
        database.DataSource.Clear();
        await server.StartAgainAsync(copy);
        try
        {
            if (how.Contains("standby", StringComparison.Ordinal))
                await server.PromoteAsync(copy);
            await Eventually.TrueAsync(async () => await CountAsync("outbox.jobs") > 0, "the new server answers", 30);
            await MakeDueAsync(waits);
            await Eventually.TrueAsync(() => Volatile.Read(ref zombies) == 2, "what was claimed on the old server alone is claimed anew", 40);
            Assert.Equal(1, await database.ScalarAsync<int>($"SELECT attempt FROM outbox.jobs WHERE id = '{waits}'"));
            zombieMayEnd.SetResult();
            await zombieEnded.Task.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
            Assert.Equal(0L, await database.ScalarAsync<long>($"SELECT count(*) FROM ended WHERE id = '{waits}'"));
            heirMayEnd.SetResult();
            await Eventually.TrueAsync(async () => await CountAsync("outbox.jobs") == 0, "the forgotten end is made up for", 40);
            var next = await EnqueueAsync(3);
            await Eventually.TrueAsync(async () => await CountAsync("ended") == 3, "new jobs run on the new server", 40);

            Assert.Equal(new[] { forgotten, waits, next }.Order(), (await database.TextsAsync("SELECT id::text FROM ended")).Select(Guid.Parse).Order());
            Assert.Equal(new[] { forgotten, waits, next }.Order(), (await database.TextsAsync("SELECT id::text FROM things")).Select(Guid.Parse).Order());
            Assert.Equal("0|0", await database.ScalarAsync<string>($"SELECT concat_ws('|', max(failures), max(crashes)) FROM outbox.job_history WHERE id <> '{gone}'"));
            Assert.Contains("has forgotten their end", worker.Log.Text, StringComparison.Ordinal);
        }
        finally
        {
            await worker.StopAsync();
            await server.StopAsync(copy);
        }

        Task<long> CountAsync(string table) => TryCountAsync(database, table);

        async Task MakeDueAsync(Guid id)
        {
            await database.ExecuteAsync($"UPDATE outbox.jobs SET run_at = now() WHERE id = '{id}'");
            await worker.Queue.WakeAsync("default", cancellationToken: TestContext.Current.CancellationToken);
        }

        async Task<string> StandbyAsync()
        {
            var standby = await server.BaseBackupAsync();
            await server.StartAsync(standby, FreePort.Find());
            await Eventually.TrueAsync(async () => await TryCountAsync(database, "pg_stat_replication WHERE replay_lsn >= pg_current_wal_flush_lsn()") == 1, "the standby follows");
            await server.StopAsync(standby);
            return standby;
        }

        async Task<string> BackupAsync()
        {
            await server.StopAsync();
            var backup = await server.CopyAsync();
            await server.StartAgainAsync();
            return backup;
        }

        // With a row of its own, in one transaction.
        async Task<Guid> EnqueueAsync(int number, TimeSpan delay = default)
        {
            var job = NewJob.Create(new NumberJob(number), new() { Delay = delay });
            await using var connection = await database.DataSource.OpenConnectionAsync(TestContext.Current.CancellationToken);
            await using var transaction = await connection.BeginTransactionAsync(TestContext.Current.CancellationToken);
            await using (var insert = new NpgsqlCommand("INSERT INTO things VALUES ($1)", connection, transaction) { Parameters = { new() { Value = job.Id } } })
                await insert.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            await worker.Queue.EnqueueAsync(transaction, [job], TestContext.Current.CancellationToken);
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
            await worker.Queue.WakeAsync("default", cancellationToken: TestContext.Current.CancellationToken);
            return job.Id;
        }
    }

    // Its sessions answer, and refuse every write, for ever.
    [Fault("P05", "after a switchover the old primary lives on and only reads", "25006 makes the worker leave it, in seconds")]
    [Fact]
    public async Task P05_a_worker_leaves_an_old_primary_that_lives_on_and_only_reads()
    {
        await using var server = await ChaosServer.StartAsync(maxConnections: 60, TestContext.Current.CancellationToken);
        Assert.SkipWhen(!server.CanMakeStandby, WithoutStandby);
        await using var proxy = FaultProxy.Before(server.AdminConnectionString);
        await using var database = ScratchDatabase.On(server.AdminConnectionString, server.ConnectionString(proxy.Port));
        var standby = await server.BaseBackupAsync();
        var port = FreePort.Find();
        await server.StartAsync(standby, port);
        var ran = 0;
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((job, _, _) =>
            {
                Volatile.Write(ref ran, job.Number);
                return Task.CompletedTask;
            }),
            o => (o.PollInterval, o.Lease, o.HeartbeatInterval) = (TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(1)));
        try
        {
            await using var old = NpgsqlDataSource.Create(server.ConnectionString(server.EndPoint.Port));
            await new JobQueue(old).EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
            await Eventually.TrueAsync(() => Volatile.Read(ref ran) == 1, "it runs on the old primary", 30);
            await Eventually.TrueAsync(async () => await TryCountAsync(database, "pg_stat_replication WHERE replay_lsn >= pg_current_wal_flush_lsn()") == 1, "the standby follows");

            await ExecuteAsync(server, "ALTER SYSTEM SET default_transaction_read_only = on");
            await ExecuteAsync(server, "SELECT pg_reload_conf()");
            await server.PromoteAsync(standby);
            proxy.Target = new IPEndPoint(IPAddress.Loopback, port);
            await using var now = NpgsqlDataSource.Create(server.ConnectionString(port));
            await Eventually.TrueAsync(async () => await SessionsAsync(now, "LISTEN%") > 0, "the worker listens to the new primary", 30);

            // Found by a notification: the next poll is half a minute away.
            await new JobQueue(now).EnqueueAsync([NewJob.Create(new NumberJob(2))], TestContext.Current.CancellationToken);
            await Eventually.TrueAsync(() => Volatile.Read(ref ran) == 2, "it runs on the new primary", 10);
            Assert.DoesNotContain("lease could not be kept", worker.Log.Text, StringComparison.OrdinalIgnoreCase);
        }
        finally
        {
            await worker.StopAsync();
            await server.StopAsync(standby);
        }

        static async Task<long> SessionsAsync(NpgsqlDataSource source, string query)
        {
            await using var command = source.CreateCommand($"SELECT count(*) FROM pg_stat_activity WHERE query ILIKE '{query}'");
            return (long)(await command.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
        }
    }

    private static async Task ExecuteAsync(ChaosServer server, string sql) => await server.ExecuteAsync(sql, TestContext.Current.CancellationToken);

    // -1: nobody answers.
    private static async Task<long> TryCountAsync(ScratchDatabase database, string table)
    {
        try
        {
            return await database.ScalarAsync<long>($"SELECT count(*) FROM {table}");
        }
        catch (NpgsqlException)
        {
            return -1;
        }
    }
}
