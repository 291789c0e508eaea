using BackgroundJobs.Outbox.PostgresTests;
using BackgroundJobs.Outbox.Testing;

[assembly: AssemblyFixture(typeof(TestServer))]

namespace BackgroundJobs.Outbox.PostgresTests;

// One server for all tests of this process, started by the first that asks. As assembly fixture it is stopped after the last one.
public sealed class TestServer : IAsyncDisposable
{
    private static readonly Lazy<Task<PostgresServer>> server = new(() => PostgresServer.StartAsync());

    public static Task<PostgresServer> RunningAsync() => server.Value;

    public async ValueTask DisposeAsync()
    {
        if (server.IsValueCreated && server.Value.IsCompletedSuccessfully)
            await (await server.Value).DisposeAsync();
    }
}
