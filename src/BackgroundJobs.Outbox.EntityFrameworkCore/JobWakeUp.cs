using System.Collections.Concurrent;
using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// Wakes the workers after a commit: those of this process at once, those of others by NOTIFY from a connection of our own (inside the
// application's transaction it would take a database-wide lock at its COMMIT). At most 50 a second: a burst of as many goes out at once, and
// beyond that hints gather for 20 ms, so that thousands of commits a second do not pay for thousands of notifications. All of it is a hint:
// what gets lost costs a poll interval, so no failure here is anybody's failure.
internal sealed class JobWakeUp
{
    private const int Burst = 50;

    private static readonly TimeSpan Gathering = TimeSpan.FromMilliseconds(20);

    // A worker of this process is claiming already; a notification at the same moment would only compete with its claim.
    private static readonly TimeSpan LocalFirst = TimeSpan.FromMilliseconds(2);

    private static readonly ConcurrentDictionary<(string, string, string), JobWakeUp> Each = new();

    private readonly Lock gate = new();
    private readonly Dictionary<string, DateTime> waiting = new(StringComparer.Ordinal);
    private readonly OutboxOptions options;
    private readonly JobSignal signal;
    private readonly bool notify;
    private readonly NpgsqlConnection? template;
    private bool sending;
    private long freeAt;

    private JobWakeUp(DbConnection connection, OutboxOptions options, bool notify)
    {
        this.options = options;
        this.notify = notify;
        signal = JobSignal.For(connection, options.Schema);

        // Keeps the data source and the password of the application's connection, which its connection string no longer tells.
        template = notify && connection is NpgsqlConnection npgsql ? (NpgsqlConnection)((ICloneable)npgsql).Clone() : null;
    }

    // To be called while the context may be used; Raise may then be called from anywhere.
    public static JobWakeUp For(DbContext context)
    {
        var extension = context.GetService<IDbContextOptions>().FindExtension<OutboxOptionsExtension>()!;
        var connection = context.GetService<IRelationalConnection>().DbConnection;
        return Each.GetOrAdd(
            (connection.DataSource, connection.Database, $"{extension.Options.Schema} {extension.Notify}"),
            static (_, from) => new JobWakeUp(from.connection, from.extension.Options, from.extension.Notify),
            (connection, extension));
    }

    public void Raise(IReadOnlyList<JobHint> hints)
    {
        foreach (var hint in hints)
            signal.Raise(hint);
        if (!notify || template is null)
            return;
        lock (gate)
        {
            foreach (var hint in hints)
            {
                if (!waiting.TryGetValue(hint.Queue, out var known) || hint.RunAt < known)
                    waiting[hint.Queue] = hint.RunAt;
            }

            if (sending)
                return;
            sending = true;
        }

        // Without the caller's ambient transaction and trace: neither is ours.
        using (ExecutionContext.SuppressFlow())
            _ = Task.Run(SendAsync);
    }

    private async Task SendAsync()
    {
        // Whether anything waits is asked before the pace: a notification that is not sent costs nothing.
        while (HasWaiting())
        {
            var wait = Pace();
            if (signal.IsHeard && wait < LocalFirst)
                wait = LocalFirst;
            if (wait > TimeSpan.Zero)
                await Task.Delay(wait, options.TimeProvider).ConfigureAwait(false);
            var payloads = Take();
            try
            {
                await using var connection = (NpgsqlConnection)((ICloneable)template!).Clone();
                await connection.OpenAsync().ConfigureAwait(false);
                var notify = SqlFile.Read(typeof(JobWakeUp).Assembly, "sql/notify_jobs.sql", options.Schema);
                await using var command = new NpgsqlCommand(string.Join(';', payloads.Select(notify.With)), connection);
                await command.ExecuteNonQueryAsync().ConfigureAwait(false);
            }
#pragma warning disable CA1031 // A hint that cannot be sent must not hurt anyone; the poll finds the jobs.
            catch (Exception)
#pragma warning restore CA1031
            {
            }
        }
    }

    // How long until the next one may be sent. Each costs one gathering time, which is paid back while nothing is sent.
    private TimeSpan Pace()
    {
        var time = options.TimeProvider;
        var now = time.GetTimestamp();
        var cost = (long)(Gathering.TotalSeconds * time.TimestampFrequency);
        freeAt = Math.Max(freeAt, now - (Burst * cost)) + cost;
        return freeAt > now ? time.GetElapsedTime(now, freeAt) : TimeSpan.Zero;
    }

    // False: nobody sends any more, and the next hint starts it again.
    private bool HasWaiting()
    {
        lock (gate)
            return sending = waiting.Count > 0;
    }

    private string[] Take()
    {
        lock (gate)
        {
            string[] payloads = [.. waiting.Select(each => new JobHint(each.Key, each.Value).ToPayload())];
            waiting.Clear();
            return payloads;
        }
    }
}
