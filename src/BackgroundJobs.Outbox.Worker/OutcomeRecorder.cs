using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Records one batch of outcomes, and says what was fenced off. A value that PostgreSQL refuses holds up neither the others nor its own job; a row that
// somebody holds holds up its own alone.
internal sealed class OutcomeRecorder(JobQueue queue, bool prepare, ILogger logger)
{
    // Returns those that are not recorded, because somebody holds their rows.
    public async Task<List<FinishedJob>> FinishAsync(NpgsqlConnection connection, List<FinishedJob> jobs)
    {
        List<FinishedJob> heldUp = [];
        try
        {
            Fenced(await queue.FinishAsync(connection, jobs, prepare).ConfigureAwait(false));
        }
        catch (PostgresException e) when (IsLocked(e))
        {
            var locked = await ListLockedAsync(connection, jobs.Select(each => each.Job)).ConfigureAwait(false);
            if (locked.Count == 0)
                throw;
            heldUp = jobs.FindAll(each => locked.Contains(each.Job.Id));
            heldUp.AddRange(await FinishAsync(connection, jobs.FindAll(each => !locked.Contains(each.Job.Id))).ConfigureAwait(false));
        }
        catch (PostgresException e) when (IsRefused(e))
        {
            // One bad value must not hold up the others, nor its own job for ever.
            foreach (var job in jobs)
            {
                if (!await FinishAloneAsync(connection, job).ConfigureAwait(false))
                    heldUp.Add(job);
            }
        }

        return heldUp;
    }

    public Task<HashSet<Guid>> ListLockedAsync(NpgsqlConnection connection, IEnumerable<ClaimedJob> jobs) => queue.ListLockedAsync(connection, jobs);

    // What waits for the jobs that have ended may run now. True: there is more of it than one statement does, or one that is locked or refused. That
    // is not for here, where other ends wait to be recorded.
    public async Task<bool> SettleAsync(NpgsqlConnection connection, List<Guid> jobs)
    {
        try
        {
            return (await queue.SettleAsync(connection, [.. jobs], CancellationToken.None).ConfigureAwait(false)).More;
        }
        catch (PostgresException)
        {
            return true;
        }
    }

    public Task FreeAsync(NpgsqlConnection connection, List<ClaimedJob> jobs) =>
        queue.FreeGroupsAsync(connection, [.. jobs.Where(each => each.InTurn).Select(each => (each.Queue, each.Group))]);

    // False: somebody holds its row.
    private async Task<bool> FinishAloneAsync(NpgsqlConnection connection, FinishedJob job)
    {
        try
        {
            Fenced(await queue.FinishAsync(connection, [job], prepare: false).ConfigureAwait(false));
            return true;
        }
        catch (PostgresException e) when (IsLocked(e))
        {
            return false;
        }
        catch (PostgresException e) when (IsRefused(e))
        {
            logger.RecordRefused(e, job.Job.Id, job.Job.Kind);
            return job.Error is not null
                ? await FinishAloneAsync(connection, job with { Error = null }).ConfigureAwait(false)
                : await GiveBackAsync(connection, job, e).ConfigureAwait(false);
        }
    }

    // What the application's own schema keeps from ending (a foreign key on it, say) comes back and says so, and is seen among those that retry.
    private async Task<bool> GiveBackAsync(NpgsqlConnection connection, FinishedJob job, PostgresException why)
    {
        var again = RetryPolicy.Default.Decide(job.Job.Failures + 1, int.MaxValue, why);
        var error = JobError.Of(
            why.SqlState, $"The attempt ended as {job.State}, but PostgreSQL refuses to take the job out of the queue: {why.MessageText}. Remove what keeps it there.");
        return (await RescheduleAsync(connection, [new RescheduledJob(job.Job, again.Delay, true, error, job.Cursor)]).ConfigureAwait(false)).Count == 0;
    }

    // Returns those that are not recorded, because somebody holds their rows.
    public async Task<List<RescheduledJob>> RescheduleAsync(NpgsqlConnection connection, List<RescheduledJob> jobs)
    {
        List<RescheduledJob> heldUp = [];
        if (jobs.Count == 0)
            return heldUp;
        // Before they can be claimed again.
        await queue.PushBackAsync(connection, jobs.FindAll(each => each.PushesBack)).ConfigureAwait(false);
        Dictionary<Guid, JobHint> given;
        try
        {
            given = await queue.RescheduleAsync(connection, jobs).ConfigureAwait(false);
        }
        catch (PostgresException e) when (IsLocked(e))
        {
            var locked = await ListLockedAsync(connection, jobs.Select(each => each.Job)).ConfigureAwait(false);
            if (locked.Count == 0)
                throw;
            heldUp = jobs.FindAll(each => locked.Contains(each.Job.Id));
            heldUp.AddRange(await RescheduleAsync(connection, jobs.FindAll(each => !locked.Contains(each.Job.Id))).ConfigureAwait(false));
            return heldUp;
        }
        catch (PostgresException e) when (IsRefused(e))
        {
            given = [];
            foreach (var job in jobs)
            {
                if (await RescheduleAloneAsync(connection, job).ConfigureAwait(false) is not { } alone)
                    heldUp.Add(job);
                else
                    foreach (var (id, hint) in alone)
                        given[id] = hint;
            }

            jobs = [.. jobs.Except(heldUp)];
        }

        Fenced([.. jobs.Select(each => each.Job.Id).Where(id => !given.ContainsKey(id))]);

        // Released jobs are due for anyone; a retry is only told to this process, the others see it in their heartbeat when it is due.
        var released = jobs.Where(each => each.Delay is null).Select(each => each.Job.Id).ToHashSet();
        foreach (var group in given.GroupBy(each => (each.Value.Queue, Released: released.Contains(each.Key))))
        {
            var hint = new JobHint(group.Key.Queue, group.Min(each => each.Value.RunAt));
            if (group.Key.Released)
                await queue.SendAsync(connection, hint, CancellationToken.None).ConfigureAwait(false);
            else
                JobSignal.For(connection, queue.Options.Schema).Raise(hint);
        }

        return heldUp;
    }

    // Null: somebody holds its row.
    private async Task<Dictionary<Guid, JobHint>?> RescheduleAloneAsync(NpgsqlConnection connection, RescheduledJob job)
    {
        try
        {
            return await queue.RescheduleAsync(connection, [job]).ConfigureAwait(false);
        }
        catch (PostgresException e) when (IsLocked(e))
        {
            return null;
        }
        catch (PostgresException e) when (IsRefused(e) && (job.Error is not null || job.Cursor is not null))
        {
            logger.RecordRefused(e, job.Job.Id, job.Job.Kind);
            return await RescheduleAloneAsync(connection, job with { Error = null, Cursor = null }).ConfigureAwait(false);
        }
    }

    // Class 22 and 23: the data, not the server, is at fault; the same statement would fail for ever.
    private static bool IsRefused(PostgresException e) => e.SqlState.StartsWith("22", StringComparison.Ordinal) || e.SqlState.StartsWith("23", StringComparison.Ordinal);

    private static bool IsLocked(PostgresException e) => e.SqlState == PostgresErrorCodes.LockNotAvailable;

    private void Fenced(List<Guid> lost)
    {
        if (lost.Count == 0)
            return;
        WorkerTelemetry.WasFenced(lost.Count);
        foreach (var id in lost)
            logger.Fenced(id);
    }
}
