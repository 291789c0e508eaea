namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    // Tells a cancel from new work: JobHint.TryParse does not take it.
    internal const string CancelPayload = "cancel";

    // A hint that cancels wait for the workers that run the jobs: without it their next beat finds them.
    internal async Task NotifyCancelAsync(CancellationToken cancellationToken)
    {
        await using var connection = dataSource.CreateConnection();
        await NotifyAsync(connection, CancelPayload, cancellationToken).ConfigureAwait(false);
    }
}
