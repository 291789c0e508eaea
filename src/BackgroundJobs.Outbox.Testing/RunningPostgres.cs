namespace BackgroundJobs.Outbox.Testing;

// What a way of finding a server comes to. The owner stops it; a given server has none.
internal sealed record RunningPostgres(PostgresWay Way, string Source, string ConnectionString, IAsyncDisposable? Owner) : IAsyncDisposable
{
    public ValueTask DisposeAsync() => Owner?.DisposeAsync() ?? ValueTask.CompletedTask;
}
