namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobInspector
{
    /// <summary>The newest workflows that have unfinished jobs. Runs <c>queries/workflows.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<WorkflowRow>> WorkflowsAsync(CancellationToken cancellationToken = default) => RunAsync<WorkflowRow>("workflows", cancellationToken);

    /// <summary>How far a workflow or a batch is. Runs <c>queries/workflow.sql</c>.</summary>
    /// <param name="id">The workflow.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The counts; null when there is no job of such a workflow, or its history is gone.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public async Task<WorkflowProgress?> WorkflowAsync(Guid id, CancellationToken cancellationToken = default) =>
        (await AskAsync<WorkflowProgress>("queries/workflow.sql", new { id }, cancellationToken).ConfigureAwait(false)).SingleOrDefault(each => each.Total > 0);

    /// <summary>The jobs of a workflow, parents before their children. Runs <c>queries/workflow_jobs.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="id">The workflow.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows; empty when there is no job of such a workflow.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<WorkflowJobRow>> WorkflowJobsAsync(Guid id, CancellationToken cancellationToken = default) =>
        AskAsync<WorkflowJobRow>("queries/workflow_jobs.sql", new { id }, cancellationToken);
}
