using System.Net;
using System.Net.Sockets;
using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Worker;

public sealed class DatabaseDownTests
{
    [Fact]
    public async Task A_worker_that_starts_before_its_database_takes_connections_begins_when_it_does()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        await queue.EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        var port = FreePort.Find();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask),
            o =>
            {
                o.ConnectionString = new NpgsqlConnectionStringBuilder(database.ConnectionString) { Host = "127.0.0.1", Port = port, SslMode = SslMode.Disable }.ConnectionString;
                o.PollInterval = TimeSpan.FromMilliseconds(200);
            });
        await Eventually.TrueAsync(() => worker.Log.Text.Contains("tried again", StringComparison.Ordinal), "it says that it cannot connect");
        Assert.Equal(1L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));

        await using var door = new Door(port, database.ConnectionString);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 1, "the job runs");
    }

    // PgBouncer passes on as 08P01 whatever keeps it from the server.
    [Fact]
    public async Task A_worker_that_starts_while_its_pooler_gets_no_connection_begins_when_it_does()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new JobQueue(database.DataSource).EnqueueAsync([NewJob.Create(new NumberJob(1))], TestContext.Current.CancellationToken);
        await using var pooler = await PgBouncer.StartAsync(database.ConnectionString);
        await using var server = NpgsqlDataSource.Create((await TestServer.GetAsync()).ConnectionString);
        await AllowConnectionsAsync(false);
        await pooler.CommandAsync("RECONNECT");
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask),
            o => (o.ConnectionString, o.PollInterval) = (pooler.ConnectionString, TimeSpan.FromMilliseconds(200)));
        await Eventually.TrueAsync(() => worker.Log.Text.Contains("08P01", StringComparison.Ordinal), "it says that it cannot connect");

        await AllowConnectionsAsync(true);
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == 1, "the job runs");

        async Task AllowConnectionsAsync(bool allow)
        {
            await using var alter = server.CreateCommand($"ALTER DATABASE \"{database.Name}\" ALLOW_CONNECTIONS {allow}");
            await alter.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }
    }

    [Fault("W13", "every connection is cut while jobs end", "ends are kept and recorded when the database is back")]
    [Fault("W31", "every connection is cut, three times", "the worker goes on without a restart")]
    [Fact]
    public async Task A_worker_whose_connections_are_all_cut_goes_on_and_loses_nothing()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>((_, _, token) => Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, token)),
            o => o.PollInterval = TimeSpan.FromMilliseconds(300));
        await worker.Queue.EnqueueAsync([.. Enumerable.Range(0, 300).Select(n => NewJob.Create(new NumberJob(n)))], TestContext.Current.CancellationToken);
        for (var cut = 1; cut <= 3; cut++)
        {
            await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") >= cut * 60, "it works");
            await database.ExecuteAsync("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'outbox worker%'");
        }

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all are done", 40);
        Assert.Equal("300|300|0", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', count(*), count(DISTINCT id), max(failures)) FROM outbox.job_history WHERE state = 'completed'"));
    }

    // Not a fault of the database, which every loop expects: one that nobody foresaw must not end a loop in silence either.
    [Fault("W30", "an exception that nobody foresaw, in every loop", "each says so and goes on")]
    [Fact]
    public async Task A_worker_that_meets_an_exception_nobody_foresaw_says_so_in_each_loop_and_goes_on()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var broken = false;
        NpgsqlDataSourceBuilder builder = new(database.ConnectionString) { ConnectionStringBuilder = { ApplicationName = "unforeseen" } };
        builder.UsePhysicalConnectionInitializer(Check, connection =>
        {
            Check(connection);
            return Task.CompletedTask;
        });
        await using var source = builder.Build();
        TaskCompletionSource started = new(), mayEnd = new();
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(async (_, _, token) =>
            {
                started.TrySetResult();
                await mayEnd.Task.WaitAsync(token);
            }),
            o => (o.ConnectionString, o.PollInterval) = (null, TimeSpan.FromMilliseconds(200)),
            services => services.AddSingleton(source));
        await worker.EnqueueAsync(new NumberJob(1));
        await started.Task.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);

        Volatile.Write(ref broken, true);
        await database.ExecuteAsync("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'unforeseen'");
        mayEnd.SetResult();
        await Eventually.TrueAsync(
            () => worker.Log.Text.Split('\n').Where(line => line.Contains(nameof(UnforeseenException), StringComparison.Ordinal)) is var said
                && said.Any(line => line.Contains("Claiming failed", StringComparison.Ordinal))
                && said.Any(line => line.Contains("Recording 1 ends failed", StringComparison.Ordinal))
                && said.Any(line => line.Contains("heartbeat", StringComparison.OrdinalIgnoreCase)),
            "the claims, the recording and the heartbeat say what they met");
        Volatile.Write(ref broken, false);

        await worker.EnqueueAsync(new NumberJob(2));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'") == 2, "both are done", 40);

        void Check(NpgsqlConnection connection)
        {
            if (Volatile.Read(ref broken))
                throw new UnforeseenException();
        }
    }

    // W11. Nobody knows of the jobs that such a claim took, and the heartbeat of a worker that lives would hold them for ever.
    [Fault("W11", "a claim is committed and its answer lost", "its jobs are given back; no failure, no crash charged")]
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Jobs_of_a_claim_whose_answer_is_lost_are_given_back_by_the_worker_while_it_lives_and_when_it_stops(bool stop)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var proxy = FaultProxy.Before(database.ConnectionString);
        var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<OtherJob>((_, _, _) => Task.CompletedTask),
            o => (o.ConnectionString, o.PollInterval, o.Listen) = (proxy.ConnectionString, TimeSpan.FromMilliseconds(300), false));
        await using var ending = worker;
        proxy.LoseAnswer(OtherJob.Kind);
        await new JobQueue(database.DataSource).EnqueueAsync([.. Enumerable.Range(0, 5).Select(n => NewJob.Create(new OtherJob($"{n}")))], TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(() => proxy.HasLost, "the claim's answer is lost");
        if (stop)
        {
            await worker.StopAsync();
            Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL"));
            Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.workers"));
            return;
        }

        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all are done", 20);
        Assert.Equal("5|2|0|0", await database.ScalarAsync<string>(
            "SELECT concat_ws('|', count(*), max(attempt), max(failures), max(crashes)) FROM outbox.job_history WHERE state = 'completed'"));
        Assert.Contains("whose answer never arrived", worker.Log.Text, StringComparison.Ordinal);
    }

    // Lets connections through to the server, from now on.
    private sealed class Door : IAsyncDisposable
    {
        private readonly TcpListener listener;

        public Door(int port, string connectionString)
        {
            listener = new(IPAddress.Loopback, port);
            listener.Start();
            _ = AcceptAsync(new NpgsqlConnectionStringBuilder(connectionString));
        }

        public ValueTask DisposeAsync()
        {
            listener.Dispose();
            return ValueTask.CompletedTask;
        }

        private async Task AcceptAsync(NpgsqlConnectionStringBuilder target)
        {
            try
            {
                while (true)
                    _ = PassAsync(await listener.AcceptTcpClientAsync(), target);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // The door is closed.
            }
        }

        private static async Task PassAsync(TcpClient client, NpgsqlConnectionStringBuilder target)
        {
            using var server = new TcpClient();
            using (client)
            {
                await server.ConnectAsync(target.Host!, target.Port);
                await Task.WhenAny(client.GetStream().CopyToAsync(server.GetStream()), server.GetStream().CopyToAsync(client.GetStream()));
            }
        }
    }

    private sealed class UnforeseenException : Exception;
}
