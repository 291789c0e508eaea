using BackgroundJobs.Outbox.Testing;

namespace BackgroundJobs.Outbox.Benchmarks.Harness;

internal sealed class Scratch(PostgresServer server, string connectionString) : IAsyncDisposable
{
    public string ConnectionString => connectionString;

    public async ValueTask DisposeAsync() => await server.DropDatabaseAsync(connectionString);
}
