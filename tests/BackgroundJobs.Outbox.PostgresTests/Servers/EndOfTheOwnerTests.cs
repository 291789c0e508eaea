using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests;

// A server and its folder go with the process that started them, however that ends.
public sealed class EndOfTheOwnerTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Dispose_returns_when_no_process_and_no_file_is_left()
    {
        var server = await StartAsync();
        var traces = await ServerTraces.OfAsync(server.ConnectionString);
        traces.AssertThere();

        await server.DisposeAsync();

        traces.AssertGone();
    }

    [Fact]
    public async Task A_server_that_does_not_react_any_more_is_killed_on_dispose()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no SIGSTOP.");
        var server = await StartAsync();
        var traces = await ServerTraces.OfAsync(server.ConnectionString);
        await OwnerProcess.SignalAsync("STOP", traces.Postmaster);

        await server.DisposeAsync();

        await Eventually.TrueAsync(() => traces.Gone, "the server, its folder and its watchdog are gone");
    }

    [Fact]
    public async Task A_server_that_was_killed_leaves_no_files_on_dispose()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no SIGKILL.");
        var server = await StartAsync();
        var traces = await ServerTraces.OfAsync(server.ConnectionString);
        await OwnerProcess.SignalAsync("KILL", traces.Postmaster);

        await server.DisposeAsync();

        await Eventually.TrueAsync(() => traces.Gone, "the server, its folder and its watchdog are gone");
    }

    [Fact]
    public async Task An_owner_that_is_killed_leaves_nothing()
    {
        await using var owner = await OwnerProcess.StartAsync("wait");
        var traces = await owner.TracesAsync();
        traces.AssertThere();

        owner.Kill();

        await owner.ExitAsync();
        await Eventually.TrueAsync(() => traces.Gone, "the server, its folder and its watchdog are gone");
    }

    [Fact]
    public async Task An_owner_that_is_killed_with_all_its_children_leaves_nothing()
    {
        await using var owner = await OwnerProcess.StartAsync("wait");
        var traces = await owner.TracesAsync();

        owner.Kill(entireTree: true);

        await owner.ExitAsync();
        await Eventually.TrueAsync(() => traces.Gone, "the server, its folder and its watchdog are gone");
    }

    [Theory]
    [InlineData("INT", 130)]
    [InlineData("TERM", 143)]
    [InlineData("HUP", 129)]
    public async Task A_signal_ends_the_owner_as_always_and_its_server_too(string signal, int exitCode)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no signals.");
        await using var owner = await OwnerProcess.StartAsync("wait");
        var traces = await owner.TracesAsync();

        await OwnerProcess.SignalAsync(signal, owner.Id);

        Assert.Equal(exitCode, await owner.ExitAsync());
        await Eventually.TrueAsync(() => traces.Gone, "the server, its folder and its watchdog are gone");
    }

    [Fact]
    public async Task An_owner_that_returns_without_dispose_leaves_nothing()
    {
        await using var owner = await OwnerProcess.StartAsync("return");
        var traces = await owner.TracesAsync();

        owner.CloseInput();

        Assert.Equal(0, await owner.ExitAsync());
        await Eventually.TrueAsync(() => traces.Gone, "the server, its folder and its watchdog are gone");
    }

    [Fact]
    public async Task Ctrl_C_in_a_terminal_does_not_take_the_server_from_an_owner_that_stops_in_order()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only Linux has the command setsid, which gives the owner a process group of its own.");
        await using var owner = await OwnerProcess.StartAsync("graceful", ownGroup: true);
        var traces = await owner.TracesAsync();
        Assert.Equal("ready", await owner.ReadLineAsync());

        // A terminal signals the whole group, not only the program in the foreground.
        await OwnerProcess.SignalAsync("INT", -owner.Id);

        Assert.Equal("still there", await owner.ReadLineAsync());
        Assert.Equal(0, await owner.ExitAsync());
        await Eventually.TrueAsync(() => traces.Gone, "the server, its folder and its watchdog are gone");
    }

    [Fact]
    public async Task What_an_owner_and_its_watchdog_left_when_both_were_killed_goes_at_the_next_start()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no SIGKILL.");
        await using var owner = await OwnerProcess.StartAsync("wait");
        var traces = await owner.TracesAsync();
        foreach (var watchdog in traces.Watchdogs())
            await OwnerProcess.SignalAsync("KILL", watchdog);
        owner.Kill();
        await owner.ExitAsync();
        Assert.False(traces.Gone);

        await using var next = await StartAsync(owner.LockFolder);

        Assert.True(traces.Gone);
    }

    [Fact]
    public async Task The_next_start_leaves_the_servers_of_living_owners_alone()
    {
        await using var owner = await OwnerProcess.StartAsync("wait");

        await using var next = await StartAsync(owner.LockFolder);

        (await owner.TracesAsync()).AssertThere();
    }

    [Fact]
    public async Task A_start_that_is_given_up_leaves_nothing()
    {
        var locks = Directory.CreateTempSubdirectory("outbox-locks-");
        var options = new PostgresServerOptions { StartTimeout = TimeSpan.FromMilliseconds(300), Way = PostgresWay.Installed };
        Assert.SkipUnless(InstalledPostgres.FindBin(SearchPlaces.OfThisProcess()) is not null, "This machine has no PostgreSQL programs to start slowly.");

        var e = await Assert.ThrowsAsync<PostgresServerException>(
            () => PostgresServer.StartAsync(options, SearchPlaces.OfThisProcess() with { LockFolder = locks.FullName }, Cancellation));

        Assert.Contains("was not up within 0.3 s", e.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFiles(locks.FullName));
        locks.Delete(recursive: true);
    }

    [Fact]
    public async Task A_server_outlives_the_object_that_nobody_holds()
    {
        var connectionString = await ConnectionStringOnlyAsync();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();

        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var command = source.CreateCommand("SELECT 1");
        Assert.Equal(1, await command.ExecuteScalarAsync(Cancellation));
    }

    private static async Task<string> ConnectionStringOnlyAsync() => (await StartAsync()).ConnectionString;

    // Never the given one: it has no end that is ours.
    private static Task<PostgresServer> StartAsync(string? lockFolder = null)
    {
        var here = SearchPlaces.OfThisProcess() with { Connection = null };
        return PostgresServer.StartAsync(new PostgresServerOptions(), lockFolder is null ? here : here with { LockFolder = lockFolder }, Cancellation);
    }
}
