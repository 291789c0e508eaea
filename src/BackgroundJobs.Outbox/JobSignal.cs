using System.Collections.Concurrent;
using System.Data.Common;

namespace BackgroundJobs.Outbox;

// "Jobs were committed": from an enqueue to the workers of the same process, without a round trip. A hint: losing it costs a poll interval.
internal sealed class JobSignal
{
    private static readonly ConcurrentDictionary<(string Server, string Database, string Schema), JobSignal> Signals = new();

    private JobSignal()
    {
    }

    public event Action<JobHint>? Raised;

    // The same database may be written in two ways in two connection strings; then the hint goes nowhere, and the poll finds the job.
    public static JobSignal For(DbConnection connection, string schema) =>
        Signals.GetOrAdd((connection.DataSource, connection.Database, schema), static _ => new JobSignal());

    // Somebody in this process listens.
    public bool IsHeard => Raised is not null;

    public void Raise(JobHint hint) => Raised?.Invoke(hint);
}
