using BackgroundJobs.Outbox.Testing;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// One server for all tests of this process. It ends with the process; nobody has to dispose it.
internal static class TestServer
{
    private static readonly Lazy<Task<PostgresServer>> Server = new(() => PostgresServer.StartAsync());

    public static Task<PostgresServer> GetAsync() => Server.Value;
}
