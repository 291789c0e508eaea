namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobInspector
{
    /// <summary>The queues with limits, and how much of them is used. Runs <c>queries/limits.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<LimitsRow>> LimitsAsync(CancellationToken cancellationToken = default) => RunAsync<LimitsRow>("limits", cancellationToken);

    /// <summary>The groups whose jobs may not start now, and why. Runs <c>queries/blocked_groups.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<BlockedGroupRow>> BlockedGroupsAsync(CancellationToken cancellationToken = default) => RunAsync<BlockedGroupRow>("blocked_groups", cancellationToken);
}
