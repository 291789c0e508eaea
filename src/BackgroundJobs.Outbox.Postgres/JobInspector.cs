using Dapper;
using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>
/// Looks at jobs, queues, workers and tables. Each method runs one file of <c>queries/</c>, the same that a person runs in psql: read only,
/// bounded, and stopped by its own timeout of 5 s, so that looking does not hurt a busy database.
/// </summary>
public sealed partial class JobInspector
{
    // How a person tells job_story.sql which job, and workflow.sql which workflow, in psql; from here the id goes as a parameter.
    private const string JobChosenInPsql = "nullif(current_setting('outbox_query.job_id', true), '')";
    private const string WorkflowChosenInPsql = "nullif(current_setting('outbox_query.workflow_id', true), '')";

    private readonly NpgsqlDataSource dataSource;
    private readonly string schema;

    static JobInspector()
    {
        ColumnNames.Map<JobCount>();
        ColumnNames.Map<OperationRow>();
        ColumnNames.Map<OldestJob>();
        ColumnNames.Map<RunningJob>();
        ColumnNames.Map<GaveUpJob>();
        ColumnNames.Map<RetryingJob>();
        ColumnNames.Map<FailingKind>();
        ColumnNames.Map<MinuteThroughput>();
        ColumnNames.Map<TableHealth>();
        ColumnNames.Map<WorkerRow>();
        ColumnNames.Map<LimitsRow>();
        ColumnNames.Map<BlockedGroupRow>();
        ColumnNames.Map<PausedKind>();
        ColumnNames.Map<QueueRow>();
        ColumnNames.Map<ScheduleRow>();
        ColumnNames.Map<JobExplanation>();
        ColumnNames.Map<JobEvent>();
        ColumnNames.Map<JobRow>();
        ColumnNames.Map<WorkflowRow>();
        ColumnNames.Map<WorkflowProgress>();
        ColumnNames.Map<WorkflowJobRow>();
        ColumnNames.Map<UniqueJobRow>();
    }

    /// <summary>An inspector of one database.</summary>
    /// <param name="dataSource">Where; a role that may only read is enough.</param>
    /// <param name="options">The schema. Default: <c>outbox</c>.</param>
    public JobInspector(NpgsqlDataSource dataSource, OutboxOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        this.dataSource = dataSource;
        schema = (options ?? OutboxOptions.Default).Schema;
    }

    /// <summary>How many jobs there are, by queue and state. Runs <c>queries/jobs_by_state.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<JobCount>> CountsAsync(CancellationToken cancellationToken = default) => RunAsync<JobCount>("jobs_by_state", cancellationToken);

    /// <summary>What waits longest, per queue and priority. Runs <c>queries/oldest_waiting.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<OldestJob>> OldestWaitingAsync(CancellationToken cancellationToken = default) => RunAsync<OldestJob>("oldest_waiting", cancellationToken);

    /// <summary>What is running, longest first. Runs <c>queries/running_jobs.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<RunningJob>> RunningAsync(CancellationToken cancellationToken = default) => RunAsync<RunningJob>("running_jobs", cancellationToken);

    /// <summary>What gave up, newest first. Runs <c>queries/dead_jobs.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<GaveUpJob>> DeadAsync(CancellationToken cancellationToken = default) => RunAsync<GaveUpJob>("dead_jobs", cancellationToken);

    /// <summary>What has failed and will be tried again, soonest first. Runs <c>queries/retrying_jobs.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<RetryingJob>> RetryingAsync(CancellationToken cancellationToken = default) => RunAsync<RetryingJob>("retrying_jobs", cancellationToken);

    /// <summary>Which kinds fail most. Runs <c>queries/failing_kinds.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<FailingKind>> FailingKindsAsync(CancellationToken cancellationToken = default) => RunAsync<FailingKind>("failing_kinds", cancellationToken);

    /// <summary>How many jobs ended in each of the last 15 minutes, newest first. Runs <c>queries/throughput_per_minute.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<MinuteThroughput>> ThroughputAsync(CancellationToken cancellationToken = default) => RunAsync<MinuteThroughput>("throughput_per_minute", cancellationToken);

    /// <summary>How our tables are, largest first. Runs <c>queries/table_health.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<TableHealth>> TableHealthAsync(CancellationToken cancellationToken = default) => RunAsync<TableHealth>("table_health", cancellationToken);

    /// <summary>The worker processes, oldest first. Runs <c>queries/workers.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<WorkerRow>> WorkersAsync(CancellationToken cancellationToken = default) => RunAsync<WorkerRow>("workers", cancellationToken);

    /// <summary>The queues, by name. Runs <c>queries/queues.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<QueueRow>> QueuesAsync(CancellationToken cancellationToken = default) => RunAsync<QueueRow>("queues", cancellationToken);

    /// <summary>The kinds that are paused, the longest first. Runs <c>queries/paused_kinds.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<PausedKind>> PausedKindsAsync(CancellationToken cancellationToken = default) => RunAsync<PausedKind>("paused_kinds", cancellationToken);

    /// <summary>The schedules, by name. Runs <c>queries/schedules.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<ScheduleRow>> SchedulesAsync(CancellationToken cancellationToken = default) => RunAsync<ScheduleRow>("schedules", cancellationToken);

    /// <summary>What was not run because of another job with its unique key, newest first. Runs <c>queries/unique_jobs.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<UniqueJobRow>> UniqueJobsAsync(CancellationToken cancellationToken = default) => RunAsync<UniqueJobRow>("unique_jobs", cancellationToken);

    /// <summary>What operators did, newest first. Runs <c>queries/operations.sql</c>, whose first lines state its bounds.</summary>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The rows.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<OperationRow>> OperationsAsync(CancellationToken cancellationToken = default) => RunAsync<OperationRow>("operations", cancellationToken);

    /// <summary>What happened to one job, in order. Runs <c>queries/job_story.sql</c>.</summary>
    /// <param name="id">The job.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The events; empty when there is no such job.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public Task<IReadOnlyList<JobEvent>> StoryAsync(Guid id, CancellationToken cancellationToken = default) =>
        AskAsync<JobEvent>("queries/job_story.sql", new { id }, cancellationToken);

    /// <summary>Why a job is not running, in one sentence. Runs <c>queries/why.sql</c>.</summary>
    /// <param name="id">The job.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The reason; null when there is no such job, or its history is gone.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public async Task<JobExplanation?> ExplainAsync(Guid id, CancellationToken cancellationToken = default) =>
        (await AskAsync<JobExplanation>("queries/why.sql", new { id }, cancellationToken).ConfigureAwait(false)).SingleOrDefault();

    /// <summary>One job as it is stored.</summary>
    /// <param name="id">The job.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The job; null when there is none with this id, or its history is gone.</returns>
    /// <exception cref="OutboxException">It took too long, or the database has no outbox schema.</exception>
    public async Task<JobRow?> FindAsync(Guid id, CancellationToken cancellationToken = default) =>
        (await AskAsync<JobRow>("sql/find_job.sql", new { id }, cancellationToken).ConfigureAwait(false)).SingleOrDefault();

    private Task<IReadOnlyList<TRow>> RunAsync<TRow>(string query, CancellationToken cancellationToken) =>
        AskAsync<TRow>($"queries/{query}.sql", null, cancellationToken);

    private async Task<IReadOnlyList<TRow>> AskAsync<TRow>(string file, object? parameters, CancellationToken cancellationToken)
    {
        var sql = SqlFile.Read(typeof(JobInspector).Assembly, file, schema).Named
            .Replace(JobChosenInPsql, "@id", StringComparison.Ordinal)
            .Replace(WorkflowChosenInPsql, "@id", StringComparison.Ordinal);
        try
        {
            // A file begins and commits its own transaction; should it fail in between, the pool rolls it back when the connection returns.
            await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
            var rows = await connection.QueryAsync<TRow>(new CommandDefinition(sql, parameters, cancellationToken: cancellationToken)).ConfigureAwait(false);
            return rows.AsList();
        }
        catch (PostgresException e) when (
            e.SqlState is PostgresErrorCodes.QueryCanceled or PostgresErrorCodes.LockNotAvailable
            && !cancellationToken.IsCancellationRequested)
        {
            throw new OutboxException(
                $"{file} was stopped by its own timeout ({e.MessageText}): the database is busier than it is made for, or a table is locked. "
                + "Look at queries/table_health.sql first: dead rows, and who holds back vacuum.",
                e);
        }
        catch (PostgresException e) when (OutboxErrors.Translate(e, schema) is { } clear)
        {
            throw clear;
        }
    }
}
