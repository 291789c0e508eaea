using System.Data;
using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

/// <summary>
/// The queue: the only thing that speaks SQL about jobs on their way. Applications use it to enqueue without EF Core; the worker
/// claims, records, beats and rescues through it. Holds no connection; safe for all threads.
/// </summary>
/// <remarks>
/// The protocol. A worker registers a lease (one row, one heartbeat). A claim gives it rows and a lease token. Each later write about a
/// claimed job names the token, so that a worker whose lease ended, and whose jobs were rescued, changes 0 rows. The database's clock
/// decides what is due and who is alive.
/// </remarks>
public sealed partial class JobQueue
{
    private readonly NpgsqlDataSource dataSource;
    private readonly OutboxOptions options;
    private readonly JobWaits waits;

    // Jobs with a unique key were enqueued in a caller's transaction, and may be: WakeAsync tells of them too.
    private volatile bool wakesUnsettled;

    /// <summary>A queue in one database.</summary>
    /// <param name="dataSource">Where.</param>
    /// <param name="options">The schema, and the limits of jobs. Default: the library's.</param>
    public JobQueue(NpgsqlDataSource dataSource, OutboxOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(dataSource);
        this.dataSource = dataSource;
        this.options = options ?? OutboxOptions.Default;
        waits = new(dataSource, this.options);
    }

    internal OutboxOptions Options => options;

    internal NpgsqlDataSource DataSource => dataSource;

    /// <summary>Enqueues one job in the caller's transaction: it exists if and only if that commits.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="transaction">The caller's transaction, on a connection to the outbox's database.</param>
    /// <param name="job">The arguments.</param>
    /// <param name="enqueue">Wishes for this job. Default: those of the kind.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The job's id.</returns>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is. Nothing was written.</exception>
    /// <exception cref="DuplicateJobException">The id exists already. PostgreSQL has aborted the transaction.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<Guid> EnqueueAsync<TJob>(
        NpgsqlTransaction transaction,
        TJob job,
        EnqueueOptions? enqueue = null,
        CancellationToken cancellationToken = default)
        where TJob : IJob
    {
        var created = NewJob.Create(job, enqueue, options);
        await EnqueueAsync(transaction, [created], cancellationToken).ConfigureAwait(false);
        return created.Id;
    }

    /// <summary>Enqueues jobs in the caller's transaction, in one statement: all exist if and only if that commits.</summary>
    /// <param name="transaction">The caller's transaction, on a connection to the outbox's database.</param>
    /// <param name="jobs">
    /// Any number of jobs, of any kinds; made by <see cref="NewJob.Create{TJob}(TJob, EnqueueOptions, OutboxOptions)"/>. Enumerated once, while
    /// the connection is in use: many jobs are best made as they are asked for (<c>Select</c>), and need no memory then.
    /// </param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="DuplicateJobException">An id exists already. PostgreSQL has aborted the transaction.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    /// <remarks>
    /// The commit is the caller's, so no wake-up can be sent after it: workers find the jobs at their next poll (2.5 s by default), or at
    /// once when the caller calls <see cref="WakeAsync"/> after the commit.
    /// </remarks>
    public async Task EnqueueAsync(NpgsqlTransaction transaction, IEnumerable<NewJob> jobs, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(transaction);
        ArgumentNullException.ThrowIfNull(jobs);
        var hints = await InsertAsync(ConnectionOf(transaction), transaction, jobs, cancellationToken).ConfigureAwait(false);
        wakesUnsettled |= hints.Contains(JobHint.Unsettled);
    }

    /// <summary>Enqueues jobs that belong to no other change, in a transaction of their own, and wakes the workers.</summary>
    /// <param name="jobs">
    /// Any number of jobs, of any kinds; made by <see cref="NewJob.Create{TJob}(TJob, EnqueueOptions, OutboxOptions)"/>. Enumerated once, while
    /// the connection is in use: many jobs are best made as they are asked for (<c>Select</c>), and need no memory then.
    /// </param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="DuplicateJobException">An id exists already. Nothing was written.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task EnqueueAsync(IEnumerable<NewJob> jobs, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(jobs);
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        var hints = await InsertAsync(connection, null, jobs, cancellationToken).ConfigureAwait(false);
        foreach (var hint in hints)
            await SendAsync(connection, hint, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Tells the workers, after a commit, that a queue has due jobs. A hint: without it they are found by the next poll.</summary>
    /// <param name="queue">The queue.</param>
    /// <param name="since">The oldest <c>run_at</c> of the new jobs (UTC). Default: a minute ago, which covers a transaction that took that long.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="InvalidJobException">No such name is allowed for a queue.</exception>
    /// <remarks>
    /// A database that cannot be reached is no error here: what the caller committed stays committed, and an exception would say otherwise.
    /// </remarks>
    public async Task WakeAsync(string queue, DateTimeOffset? since = null, CancellationToken cancellationToken = default)
    {
        JobName.CheckQueue(queue);
        cancellationToken.ThrowIfCancellationRequested();
        var oldest = since ?? options.TimeProvider.GetUtcNow().AddMinutes(-1);
        await using var connection = dataSource.CreateConnection();
        if (wakesUnsettled)
            await SendAsync(connection, JobHint.Unsettled, cancellationToken).ConfigureAwait(false);
        await SendAsync(connection, new JobHint(queue, oldest.UtcDateTime), cancellationToken).ConfigureAwait(false);
    }

    internal async Task SendAsync(NpgsqlConnection connection, JobHint hint, CancellationToken cancellationToken)
    {
        JobSignal.For(connection, options.Schema).Raise(hint);
        await NotifyAsync(connection, hint.ToPayload(), cancellationToken).ConfigureAwait(false);
    }

    // Follows a commit, of which no failure here may say that it did not happen.
    private async Task NotifyAsync(NpgsqlConnection connection, string payload, CancellationToken cancellationToken)
    {
        try
        {
            if (connection.State == ConnectionState.Closed)
                await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
            await using var notify = new NpgsqlCommand(Sql("notify").With(payload), connection);
            await notify.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
        }
#pragma warning disable CA1031 // A hint that cannot be sent must not hurt anyone: the next poll, or beat, finds what it was about.
        catch (Exception)
#pragma warning restore CA1031
        {
        }
    }

    internal SqlFile Sql(string name) => Sql(name, options);

    private static NpgsqlConnection ConnectionOf(NpgsqlTransaction transaction)
    {
        try
        {
            // Throws when the transaction is over; its connection alone would not tell.
            _ = transaction.IsolationLevel;
            return transaction.Connection!;
        }
        catch (InvalidOperationException e)
        {
            throw new OutboxException(
                "Jobs cannot be enqueued in a transaction that has ended: they would not be atomic with anything. Enqueue before Commit.", e);
        }
    }

    internal static SqlFile Sql(string name, OutboxOptions options) =>
        SqlFile.Read(typeof(JobQueue).Assembly, $"sql/{name}.sql", options.Schema);

    private async Task<List<JobHint>> InsertAsync(
        NpgsqlConnection connection, NpgsqlTransaction? transaction, IEnumerable<NewJob> jobs, CancellationToken cancellationToken)
    {
        try
        {
            using var each = jobs.GetEnumerator();
            List<NewJob> first = [];
            while (first.Count < ManyJobs && each.MoveNext())
                first.Add(each.Current);
            if (first.Count < ManyJobs)
                return await InsertFewAsync(connection, transaction, first, cancellationToken).ConfigureAwait(false);
            if (transaction is not null)
                return await CopyAsync(connection, first, each, cancellationToken).ConfigureAwait(false);
            var own = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
            await using (own.ConfigureAwait(false))
            {
                var hints = await CopyAsync(connection, first, each, cancellationToken).ConfigureAwait(false);
                await own.CommitAsync(cancellationToken).ConfigureAwait(false);
                return hints;
            }
        }
        catch (PostgresException e) when (OutboxErrors.Translate(e, options.Schema) is { } clear)
        {
            throw clear;
        }
    }

    private async Task<List<JobHint>> InsertFewAsync(
        NpgsqlConnection connection, NpgsqlTransaction? transaction, List<NewJob> jobs, CancellationToken cancellationToken)
    {
        List<JobHint> hints = [];
        if (jobs.Count == 0)
            return hints;
        await using var command = Sql("enqueue_jobs").Command(
            connection,
            ("ids", Value(Column(jobs, job => job.Id))),
            ("kinds", Value(Column(jobs, job => job.Kind))),
            ("args", Value(Column(jobs, job => job.Args))),
            ("queues", Value(Column(jobs, job => job.Queue))),
            ("priorities", Value(Column(jobs, job => job.StoredPriority))),
            ("run_at", Value(Column(jobs, job => job.RunAt))),
            ("delays", Value(Column(jobs, job => job.Delay is { } delay ? delay.Ticks / TimeSpan.TicksPerMicrosecond : (long?)null))),
            ("max_attempts", Value(Column(jobs, job => job.MaxAttempts))),
            ("headers", Value(Column(jobs, job => job.Headers))),
            ("traceparents", Value(Column(jobs, job => job.TraceParent))),
            ("workflow_ids", Value(Column(jobs, job => job.WorkflowId))),
            ("depends_on", Value(Column(jobs, job => job.DependsOn))),
            ("groups", Value(Sparse(jobs, job => job.Group))),
            ("unique_keys", Value(Sparse(jobs, job => job.UniqueKey))),
            ("unique_rules", Value(Sparse(jobs, job => job.UniqueRule))));
        command.Transaction = transaction;
        await options.AtAsync("enqueue").ConfigureAwait(false);
        await using var reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
            hints.Add(new JobHint(reader.GetString(0), reader.GetDateTime(1)));
        if (jobs.Exists(job => job.UniqueKey is not null))
            hints.Add(JobHint.Unsettled);
        await options.AtAsync("enqueue answered").ConfigureAwait(false);
        return hints;
    }

    // Nothing where no row has a value, as nearly always: unnest fills up with nulls.
    private static string?[] Sparse<TRow>(IReadOnlyCollection<TRow> rows, Func<TRow, string?> value)
    {
        string?[]? column = null;
        var at = 0;
        foreach (var row in rows)
        {
            if (value(row) is { } text)
                (column ??= new string?[rows.Count])[at] = text;
            at++;
        }

        return column ?? [];
    }

    private static TValue[] Column<TRow, TValue>(IReadOnlyCollection<TRow> rows, Func<TRow, TValue> value)
    {
        var column = new TValue[rows.Count];
        var at = 0;
        foreach (var row in rows)
            column[at++] = value(row);
        return column;
    }
}
