using System.Collections.Concurrent;
using Npgsql;

namespace BackgroundJobs.Outbox.Testing;

// Makes and drops databases over one pool of administrator's connections.
internal sealed class DatabaseMaker(string connectionString) : IAsyncDisposable
{
    private static readonly TimeSpan templateRetry = TimeSpan.FromMilliseconds(50);

    // With the detail, which says how many sessions keep a template busy.
    private readonly NpgsqlDataSource admin =
        NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(connectionString) { IncludeErrorDetail = true });
    private readonly ConcurrentDictionary<string, bool> made = new(StringComparer.Ordinal);
    // Two copies of one template at a time can refuse each other, and gain nothing: the disk is the same.
    private readonly SemaphoreSlim oneAtATime = new(1, 1);

    public TimeSpan TemplateWait { get; init; } = TimeSpan.FromSeconds(10);

    public async Task<string> CreateAsync(string? template, CancellationToken cancellationToken)
    {
        var name = $"outbox_test_{Guid.CreateVersion7():n}";
        var from = template is null ? "" : $" TEMPLATE {Quoted(NameIn(template))}";
        await oneAtATime.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await CopyAsync($"CREATE DATABASE {Quoted(name)}{from}", template, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            oneAtATime.Release();
        }

        made[name] = true;
        return new NpgsqlConnectionStringBuilder(connectionString) { Database = name }.ConnectionString;
    }

    public async Task DropAsync(string database, CancellationToken cancellationToken)
    {
        var name = NameIn(database);
        await ExecuteAsync($"DROP DATABASE IF EXISTS {Quoted(name)} WITH (FORCE)", cancellationToken).ConfigureAwait(false);
        made.TryRemove(name, out _);
    }

    public async Task DropAllAsync()
    {
        foreach (var name in made.Keys)
            await DropAsync(name, CancellationToken.None).ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        oneAtATime.Dispose();
        await admin.DisposeAsync().ConfigureAwait(false);
    }

    // A session that was closed a moment ago, or autovacuum, may still be in the template: that passes. A pool that holds one does not.
    private async Task CopyAsync(string sql, string? template, CancellationToken cancellationToken)
    {
        var started = TimeProvider.System.GetTimestamp();
        while (true)
        {
            try
            {
                await ExecuteAsync(sql, cancellationToken).ConfigureAwait(false);
                return;
            }
            catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.ObjectInUse)
            {
                if (TimeProvider.System.GetElapsedTime(started) > TemplateWait)
                {
                    throw new PostgresServerException(
                        $"The template database '{NameIn(template ?? "template1")}' cannot be copied: {e.Detail ?? e.MessageText} " +
                        "PostgreSQL copies only a database that nobody is connected to. Dispose the data source that prepared it, or clear its pool.", e);
                }

                await Task.Delay(templateRetry, TimeProvider.System, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async Task ExecuteAsync(string sql, CancellationToken cancellationToken)
    {
        await using var command = admin.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    private static string NameIn(string database)
    {
        if (!database.Contains('=', StringComparison.Ordinal))
            return database;
        return new NpgsqlConnectionStringBuilder(database).Database
            ?? throw new ArgumentException("The connection string names no database.", nameof(database));
    }

    private static string Quoted(string name) => $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
