using System.Text.Json.Nodes;
using Dapper;
using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobAdmin
{
    /// <summary>Removes a job that waits or has finished, without a trace.</summary>
    /// <param name="id">The job.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>False when there is no such job.</returns>
    /// <exception cref="OutboxException">The job is running.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<bool> DeleteAsync(Guid id, CancellationToken cancellationToken = default)
    {
        if (await DeleteAsync(new JobFilter { Ids = [id] }, cancellationToken).ConfigureAwait(false) > 0)
            return true;
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        if (await connection.ExecuteScalarAsync<bool>(Command("is_running", new { id }, cancellationToken)).ConfigureAwait(false))
            throw new OutboxException(
                $"Job {id} cannot be deleted: a worker is running it, and its handler would end without a job to record it in. "
                + "Cancel it first (CancelAsync), and delete it when it has ended.");
        return false;
    }

    /// <summary>Removes jobs that wait or have finished, without a trace; running ones are left alone.</summary>
    /// <param name="filter">Which jobs.</param>
    /// <param name="cancellationToken">Stops between batches, or cancels the running one.</param>
    /// <returns>How many.</returns>
    /// <exception cref="OutboxException">The filter is empty, or names running jobs.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task<int> DeleteAsync(JobFilter filter, CancellationToken cancellationToken = default)
    {
        RefuseEmpty(filter, "deleted");
        if (filter.States?.Contains(JobState.Running) ?? false)
            throw new OutboxException("Running jobs cannot be deleted: their handlers would end without a job to record it in. Cancel them first, and leave Running out of the filter's States.");

        var waiting = await InBatchesAsync(
            "delete",
            "delete_waiting_jobs",
            filter,
            FilterParameters.StatesOf(filter, JobState.Blocked, JobState.Scheduled, JobState.Waiting, JobState.Retrying),
            wake: false,
            cancellationToken).ConfigureAwait(false);
        var finished = await InBatchesAsync(
            "delete",
            "delete_finished_jobs",
            filter,
            FilterParameters.StatesOf(filter, JobState.Completed, JobState.Cancelled, JobState.Dead),
            wake: false,
            cancellationToken).ConfigureAwait(false);
        return waiting.Count + finished.Count;
    }

    private static void RefuseEmpty(JobFilter filter, string what)
    {
        ArgumentNullException.ThrowIfNull(filter);
        if (filter.IsEmpty)
            throw new OutboxException($"No jobs were {what}: the filter is empty and would mean every job. Set one of its properties, or pass JobFilter.Everything.");
    }

    // Page by page in the order of ids, so that the last batch costs no more than the first.
    private async Task<(int Count, int Claimed)> InBatchesAsync(
        string verb,
        string statement,
        JobFilter filter,
        string[] states,
        bool wake,
        CancellationToken cancellationToken,
        params (string Name, object Value)[] more)
    {
        ArgumentNullException.ThrowIfNull(filter);
        var (count, claimed) = (0, 0);
        if (states.Length == 0)
            return (count, claimed);
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        for (var after = Guid.Empty; ;)
        {
            var parameters = FilterParameters.Of(filter, states, after, FilterParameters.BatchSize);
            foreach (var (name, value) in more)
                parameters.Add(name, value);
            var batch = await TouchAsync(connection, statement, parameters, verb, Meant(filter, more), cancellationToken).ConfigureAwait(false);
            if (batch.Count == 0)
                return (count, claimed);
            count += batch.Count;
            claimed += batch.Count(job => job.Claimed);
            after = batch.Max(job => job.Id);
            await queue.FreeGroupsAsync(connection, [.. batch.Select(job => (job.Queue, job.JobGroup))]).ConfigureAwait(false);
            if (wake)
            {
                // After the commit and in a transaction of its own: NOTIFY takes a database-wide lock at commit.
                foreach (var hint in batch.GroupBy(job => job.Queue, job => job.RunAt))
                    await queue.SendAsync(connection, new JobHint(hint.Key, hint.Min()), cancellationToken).ConfigureAwait(false);
                if (batch.Exists(job => job.IsUnsettled))
                    await queue.SendAsync(connection, JobHint.Unsettled, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async Task<List<TouchedJob>> TouchAsync(
        NpgsqlConnection connection, string statement, DynamicParameters parameters, string verb, string what, CancellationToken cancellationToken)
    {
        async Task<List<TouchedJob>> AskOnceAsync()
        {
            var transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
            await using var ending = transaction.ConfigureAwait(false);
            var touched = (await AskAsync(() => connection.QueryAsync<TouchedJob>(Command(statement, parameters, cancellationToken, transaction))).ConfigureAwait(false)).AsList();
            if (touched.Where(each => each.WorkflowId is not null).Select(each => each.Id).ToArray() is { Length: > 0 } ids)
                await connection.ExecuteAsync(Command("bring_back_children", new { ids }, cancellationToken, transaction)).ConfigureAwait(false);
            if (touched.Count > 0)
                await NoteAsync(connection, transaction, verb, touched.Count, what, cancellationToken).ConfigureAwait(false);
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
            return touched;
        }

        try
        {
            return await AskOnceAsync().ConfigureAwait(false);
        }
        catch (PostgresException e) when (e.SqlState is PostgresErrorCodes.LockNotAvailable or PostgresErrorCodes.DeadlockDetected && parameters.ParameterNames.Contains("patience"))
        {
            parameters.Add("patience", null);
            return await AskOnceAsync().ConfigureAwait(false);
        }
    }

    private Task<int> NoteAsync(NpgsqlConnection connection, NpgsqlTransaction transaction, string verb, int jobs, string what, CancellationToken cancellationToken) =>
        AskAsync(() => connection.ExecuteAsync(Command("note_operation", new { verb, jobs, what }, cancellationToken, transaction)));

    // Bounded: a list of ids may be long.
    private static string Meant(JobFilter filter, (string Name, object Value)[] more)
    {
        var meant = new JsonObject();
        Add("ids", filter.Ids is { } ids ? new JsonArray([.. ids.Take(100).Select(id => JsonValue.Create(id))]) : null);
        Add("idCount", filter.Ids is { Count: > 100 } all ? all.Count : null);
        Add("states", filter.States is { } states ? new JsonArray([.. states.Select(state => JsonValue.Create(state.ToString()))]) : null);
        Add("queue", filter.Queue);
        Add("kind", filter.Kind);
        Add("group", filter.Group);
        Add("workflowId", filter.WorkflowId);
        Add("createdAfter", filter.CreatedAfter);
        Add("createdBefore", filter.CreatedBefore);
        Add("finishedAfter", filter.FinishedAfter);
        Add("finishedBefore", filter.FinishedBefore);
        Add("errorContains", filter.ErrorContains);
        Add("reason", Array.Find(more, each => each.Name == "reason").Value as string);
        return meant.ToJsonString();

        void Add(string name, JsonNode? value)
        {
            if (value is not null)
                meant[name] = value;
        }
    }

    private CommandDefinition Command(string statement, object parameters, CancellationToken cancellationToken, NpgsqlTransaction? transaction = null) =>
        new(queue.Sql(statement).Named, parameters, transaction, CommandTimeoutSeconds, cancellationToken: cancellationToken);

    private async Task<T> AskAsync<T>(Func<Task<T>> ask)
    {
        try
        {
            return await ask().ConfigureAwait(false);
        }
        catch (PostgresException e) when (OutboxErrors.Translate(e, queue.Options.Schema) is { } clear)
        {
            throw clear;
        }
    }
}
