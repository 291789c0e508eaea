using Dapper;
using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>
/// An operator's verbs: retry, cancel, delete; for one job or for all that a <see cref="JobFilter"/> means; pause and resume queues and kinds; and
/// what a schedule needs. Work on many jobs
/// goes in batches of 1,000, each a transaction of its own: workers are not held up, and what was done before an interruption stays done.
/// </summary>
public sealed partial class JobAdmin
{
    /// <summary>Where <see cref="CountAsync"/> stops counting: the question must not cost more than the answer is worth.</summary>
    public const int CountLimit = 100_000;

    // A batch that takes longer waits for someone; better that the operator hears of it.
    private const int CommandTimeoutSeconds = 30;

    private readonly NpgsqlDataSource dataSource;
    private readonly JobQueue queue;

    static JobAdmin()
    {
        ColumnNames.Map<TouchedJob>();
        ColumnNames.Map<PausedQueue>();
    }

    /// <summary>The verbs for one database.</summary>
    /// <param name="dataSource">Where.</param>
    /// <param name="options">The schema. Default: <c>outbox</c>.</param>
    public JobAdmin(NpgsqlDataSource dataSource, OutboxOptions? options = null)
    {
        queue = new JobQueue(dataSource, options);
        this.dataSource = dataSource;
    }

    /// <summary>How many jobs a filter means, to be asked before a verb is used on them.</summary>
    /// <param name="filter">Which jobs.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The number, exact below <see cref="CountLimit"/>; that number means: so many or more.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<long> CountAsync(JobFilter filter, CancellationToken cancellationToken = default)
    {
        var states = FilterParameters.StatesOf(filter, Enum.GetValues<JobState>());
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        return await AskAsync(() => connection.ExecuteScalarAsync<long>(
            Command("count_jobs", FilterParameters.Of(filter, states, Guid.Empty, CountLimit), cancellationToken))).ConfigureAwait(false);
    }

    /// <summary>Runs a job again that is dead or cancelled, or at once if it waits for its next attempt.</summary>
    /// <param name="id">The job.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when there is no such job in one of these states.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<bool> RetryAsync(Guid id, CancellationToken cancellationToken = default) =>
        await RetryAsync(new JobFilter { Ids = [id] }, cancellationToken).ConfigureAwait(false) > 0;

    /// <summary>
    /// Runs jobs again that are dead or cancelled, and those at once that wait for their next attempt; others are left alone. A job keeps its
    /// id, its attempt number and its errors, and may fail as often as a new one. What was cancelled because of a parent comes back when that
    /// parent is retried, and is not counted; by itself it is left alone.
    /// </summary>
    /// <param name="filter">Which jobs.</param>
    /// <param name="cancellationToken">Stops between batches, or cancels the running one.</param>
    /// <returns>How many.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<int> RetryAsync(JobFilter filter, CancellationToken cancellationToken = default)
    {
        var finished = await InBatchesAsync(
            "retry", "retry_finished_jobs", filter, FilterParameters.StatesOf(filter, JobState.Dead, JobState.Cancelled), wake: true, cancellationToken).ConfigureAwait(false);
        var waiting = await InBatchesAsync(
            "retry", "retry_waiting_jobs", filter, FilterParameters.StatesOf(filter, JobState.Retrying), wake: true, cancellationToken).ConfigureAwait(false);
        return finished.Count + waiting.Count;
    }

    /// <summary>Stops a job: at once if it waits, through its handler's token if it runs.</summary>
    /// <param name="id">The job.</param>
    /// <param name="reason">Why; kept with a job that waited. Default: that an operator did it.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when there is no such unfinished job, or it was cancelled before.</returns>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<bool> CancelAsync(Guid id, string? reason = null, CancellationToken cancellationToken = default)
    {
        var done = await CancelAsync(new JobFilter { Ids = [id] }, reason, cancellationToken).ConfigureAwait(false);
        return done.Ended + done.Asked > 0;
    }

    /// <summary>
    /// Stops jobs: at once those that wait, through their handlers' tokens those that run. They can be retried. Waits half a second for a job
    /// that somebody has locked; one that is locked for longer is being ended by its handler's own transaction, and is passed over.
    /// </summary>
    /// <param name="filter">Which jobs.</param>
    /// <param name="reason">Why; kept with the jobs that waited. Default: that an operator did it.</param>
    /// <param name="cancellationToken">Stops between batches, or cancels the running one.</param>
    /// <returns>How many of either.</returns>
    /// <exception cref="OutboxException">The filter is empty.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<CancelledJobs> CancelAsync(JobFilter filter, string? reason = null, CancellationToken cancellationToken = default)
    {
        RefuseEmpty(filter, "cancelled");
        var waiting = FilterParameters.StatesOf(filter, JobState.Blocked, JobState.Scheduled, JobState.Waiting, JobState.Retrying);
        var unfinished = FilterParameters.StatesOf(filter, JobState.Blocked, JobState.Scheduled, JobState.Waiting, JobState.Retrying, JobState.Running);
        var why = JobError.Of("cancelled", reason ?? "Cancelled by an operator.").Message;

        var ended = (await InBatchesAsync("cancel", "cancel_waiting_jobs", filter, waiting, wake: false, cancellationToken, ("reason", why)).ConfigureAwait(false)).Count;
        var asked = await InBatchesAsync("cancel", "request_cancel", filter, unfinished, wake: false, cancellationToken, ("patience", "500ms"), ("reason", why)).ConfigureAwait(false);
        if (asked.Claimed > 0)
            await queue.NotifyCancelAsync(cancellationToken).ConfigureAwait(false);

        // Whose claim was rolled back while we waited for it, or who was given back, is waiting.
        if (asked.Claimed < asked.Count)
            ended += (await InBatchesAsync("cancel", "cancel_waiting_jobs", filter, waiting, wake: false, cancellationToken, ("reason", why)).ConfigureAwait(false)).Count;
        return new(ended, asked.Claimed);
    }
}
