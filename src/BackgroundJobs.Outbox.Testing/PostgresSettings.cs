using System.Globalization;
using System.Text;

namespace BackgroundJobs.Outbox.Testing;

// What the options come to as server settings.
internal static class PostgresSettings
{
    // What sockaddr_un holds on macOS, the smaller one, less the name that the server adds and the closing zero.
    private const int LongestSocketFolder = 104 - 1 - 16;

    public static IEnumerable<KeyValuePair<string, string>> Of(PostgresServerOptions options)
    {
        yield return new("max_connections", options.MaxConnections.ToString(CultureInfo.InvariantCulture));
        // No checkpoint in the middle of what somebody measures or waits for.
        yield return new("shared_buffers", "256MB");
        yield return new("max_wal_size", "2GB");
        if (!options.Durable)
        {
            yield return new("fsync", "off");
            yield return new("full_page_writes", "off");
            yield return new("synchronous_commit", "off");
        }

        foreach (var setting in options.Settings)
            yield return setting;
    }

    // No socket where there is none, or where its path would be too long for one: the server is reached over TCP in any case.
    public static string SocketFolder(string folder) =>
        OperatingSystem.IsWindows() || Encoding.UTF8.GetByteCount(folder) > LongestSocketFolder ? "" : folder;
}
