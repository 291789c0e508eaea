using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests;

// How a server that we start is set up: settings, access, user.
public sealed class StartedServerTests
{
    private static readonly SearchPlaces here = SearchPlaces.OfThisProcess() with { Connection = null };

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_does_not_wait_for_the_disk_unless_it_is_asked_to()
    {
        await using var server = await PostgresServer.StartAsync(new PostgresServerOptions(), here, Cancellation);
        await using var durable = await PostgresServer.StartAsync(new PostgresServerOptions { Durable = true }, here, Cancellation);
        const string sql = "SELECT string_agg(current_setting(s), ',') FROM unnest(ARRAY['fsync', 'full_page_writes', 'synchronous_commit']) s";

        Assert.Equal("off,off,off", await ScalarAsync(server.ConnectionString, sql));
        Assert.Equal("on,on,on", await ScalarAsync(durable.ConnectionString, sql));
    }

    [Fact]
    public async Task Settings_reach_the_server_whatever_is_in_them()
    {
        var options = new PostgresServerOptions { MaxConnections = 37, Settings = { ["application_name"] = "it's # a 'test'", ["fsync"] = "on" } };
        await using var server = await PostgresServer.StartAsync(options, here, Cancellation);

        Assert.Equal("37", await ScalarAsync(server.ConnectionString, "SHOW max_connections"));
        Assert.Equal("on", await ScalarAsync(server.ConnectionString, "SHOW fsync"));
        Assert.Equal("it's # a 'test'", await ScalarAsync(server.ConnectionString, "SELECT boot_val || reset_val FROM pg_settings WHERE name = 'application_name'"));
    }

    [Fact]
    public async Task Somebody_who_looks_for_stale_folders_never_takes_the_lock_of_a_new_one()
    {
        var locks = Directory.CreateTempSubdirectory("outbox-locks-").FullName;
        try
        {
            using var ended = new CancellationTokenSource();
            var looking = Enumerable.Range(0, 4).Select(_ => Task.Run(
                async () =>
                {
                    while (!ended.IsCancellationRequested)
                        await ClusterFolder.RemoveStaleAsync(locks);
                },
                Cancellation)).ToArray();
            for (var n = 0; n < 200; n++)
                await using (ClusterFolder.Create(locks, ["true"]))
                    Assert.NotEmpty(Directory.GetFiles(locks));
            await ended.CancelAsync();
            await Task.WhenAll(looking);
        }
        finally
        {
            Directory.Delete(locks, recursive: true);
        }
    }

    [Fact]
    public async Task A_setting_that_the_server_refuses_is_in_the_error()
    {
        var options = new PostgresServerOptions { Way = PostgresWay.Installed, Settings = { ["no_such_setting"] = "1" } };

        var e = await Assert.ThrowsAsync<PostgresServerException>(() => PostgresServer.StartAsync(options, here, Cancellation));

        Assert.Contains("no_such_setting", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, 60)]
    [InlineData(200, 0)]
    public async Task Options_out_of_range_are_refused(int maxConnections, int seconds)
    {
        var options = new PostgresServerOptions { MaxConnections = maxConnections, StartTimeout = TimeSpan.FromSeconds(seconds) };

        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => PostgresServer.StartAsync(options, here, Cancellation));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Nobody_gets_in_without_the_password(bool bySocket)
    {
        Assert.SkipWhen(bySocket && OperatingSystem.IsWindows(), "No socket is made on Windows.");
        await using var server = await PostgresServer.StartAsync(new PostgresServerOptions(), here, Cancellation);
        var connection = new NpgsqlConnectionStringBuilder(server.ConnectionString);
        if (bySocket)
            connection.Host = (await ServerTraces.OfAsync(server.ConnectionString)).Folder;
        Assert.Equal("1", await ScalarAsync(connection.ConnectionString, "SELECT 1::text"));

        connection.Password = "guessed";
        var e = await Assert.ThrowsAsync<PostgresException>(() => ScalarAsync(connection.ConnectionString, "SELECT 1::text"));

        Assert.Equal(PostgresErrorCodes.InvalidPassword, e.SqlState);
    }

    [Fact]
    public async Task Its_user_is_a_superuser_and_its_folder_is_private()
    {
        await using var server = await PostgresServer.StartAsync(new PostgresServerOptions(), here, Cancellation);

        Assert.Equal("on", await ScalarAsync(server.ConnectionString, "SHOW is_superuser"));
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(
                UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute,
                File.GetUnixFileMode((await ServerTraces.OfAsync(server.ConnectionString)).Folder));
        }
    }

    [Theory]
    [InlineData("setpriv")]
    [InlineData("su")]
    public async Task Root_runs_it_as_somebody_else(string by)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && Environment.IsPrivilegedProcess, "This process is not root on Linux.");
        var places = by == "su" ? here with { Path = [] } : here;
        var user = await ServerUser.FindAsync(places, Cancellation);
        Assert.Equal(by, Path.GetFileName(user.Switch[0]));

        await using var server = await PostgresServer.StartAsync(new PostgresServerOptions { Way = PostgresWay.Installed }, places, Cancellation);

        var traces = await ServerTraces.OfAsync(server.ConnectionString);
        var status = await File.ReadAllLinesAsync($"/proc/{traces.Postmaster}/status", Cancellation);
        Assert.Equal(user.UserId.ToString(provider: null), status.Single(line => line.StartsWith("Uid:", StringComparison.Ordinal)).Split('\t')[1]);
        Assert.NotEqual(0, user.UserId);
    }

    [Fact]
    public async Task Root_runs_it_as_nobody_where_there_is_no_user_postgres()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && Environment.IsPrivilegedProcess, "This process is not root on Linux.");
        foreach (var places in new[] { here, here with { Path = [] } })
        {
            var user = ServerUser.SwitchTo("nobody", 65534, 65534, places);
            var run = await ProgramRun.ToEndAsync([.. user, "id", "-u"], Cancellation);

            Assert.Equal("65534", run.Output);
        }
    }

    [Fact]
    public async Task Several_start_at_once_and_do_not_meet()
    {
        var servers = await Task.WhenAll(
            Enumerable.Range(0, 4).Select(_ => PostgresServer.StartAsync(new PostgresServerOptions(), here, Cancellation)));

        Assert.Equal(4, servers.Select(server => new NpgsqlConnectionStringBuilder(server.ConnectionString).Port).Distinct().Count());
        foreach (var server in servers)
            await server.DisposeAsync();
    }

    private static async Task<string?> ScalarAsync(string connectionString, string sql)
    {
        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var command = source.CreateCommand(sql);
        return (string?)await command.ExecuteScalarAsync(Cancellation);
    }
}
