using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Collects outcomes and records them in batches: while one batch is on its way, the next one gathers. So one outcome alone is recorded at
// once, and under load a batch is as large as it needs to be. What cannot be written is kept and tried again; the fence makes that safe.
internal sealed class OutcomeWriter(JobQueue queue, NpgsqlDataSource connections, bool prepare, TimeProvider time, ILogger logger) : IDisposable
{
    private const int MaxBatch = 5000;

    private readonly Lock gate = new();
    private readonly WakeSignal added = new();
    private List<FinishedJob> finished = [];
    private List<RescheduledJob> rescheduled = [];
    private int pending;
    private volatile bool completed;
    private TimeSpan backOff;

    // Ends that are not in the database yet.
    public int Pending => Volatile.Read(ref pending);

    public event Action? Flushed;

    public void Add(Attempt attempt, JobOutcome outcome)
    {
        var job = attempt.Job;
        switch (outcome.End)
        {
            case JobEnd.Completed:
                Add(new FinishedJob(job, JobState.Completed, attempt.Registration.Options.History, null));
                break;
            case JobEnd.Cancelled:
                Add(new FinishedJob(job, JobState.Cancelled, HistoryPolicy.Keep, outcome.Error));
                break;
            case JobEnd.Dead:
                Add(new FinishedJob(job, JobState.Dead, HistoryPolicy.Keep, outcome.Error));
                break;
            case JobEnd.Retry:
                Add(new RescheduledJob(job, outcome.Delay, true, outcome.Error, attempt.TakeNewCursor()));
                break;
            case JobEnd.Snooze:
                Add(new RescheduledJob(job, outcome.Delay, false, null, attempt.TakeNewCursor()));
                break;
            case JobEnd.Release:
                Add(new RescheduledJob(job, null, false, null, attempt.TakeNewCursor()));
                break;
            case JobEnd.Recorded:
                break;
            default:
                throw new InvalidOperationException($"{outcome.End} cannot be recorded.");
        }
    }

    // A job that was claimed and never started.
    public void Release(ClaimedJob job) => Add(new RescheduledJob(job, null, false, null, null));

    // Runs until Complete was called and everything is written, or until it is cancelled.
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            if (Pending == 0)
            {
                if (completed)
                    return;
                await added.WaitAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
            }

            var (toFinish, toReschedule) = Take();
            if (toFinish.Count + toReschedule.Count > 0)
                await FlushAsync(toFinish, toReschedule, cancellationToken).ConfigureAwait(false);
        }
    }

    // No more outcomes will come.
    public void Complete()
    {
        completed = true;
        added.Set();
    }

    public void Dispose() => added.Dispose();

    private void Add(FinishedJob job)
    {
        lock (gate)
        {
            finished.Add(job);
            pending++;
        }

        added.Set();
    }

    private void Add(RescheduledJob job)
    {
        lock (gate)
        {
            rescheduled.Add(job);
            pending++;
        }

        added.Set();
    }

    private (List<FinishedJob> Finished, List<RescheduledJob> Rescheduled) Take()
    {
        lock (gate)
            return (Cut(ref finished), Cut(ref rescheduled));
    }

    private static List<T> Cut<T>(ref List<T> from)
    {
        var taken = from;
        if (taken.Count <= MaxBatch)
        {
            from = new List<T>(Math.Min(taken.Count, MaxBatch));
            return taken;
        }

        from = taken.GetRange(MaxBatch, taken.Count - MaxBatch);
        taken.RemoveRange(MaxBatch, taken.Count - MaxBatch);
        return taken;
    }

    private async Task FlushAsync(List<FinishedJob> toFinish, List<RescheduledJob> toReschedule, CancellationToken cancellationToken)
    {
        try
        {
            await using var connection = await connections.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
            await FinishAsync(connection, toFinish).ConfigureAwait(false);
            Written(toFinish);
            await RescheduleAsync(connection, toReschedule).ConfigureAwait(false);
            Written(toReschedule);
            backOff = TimeSpan.Zero;
            Flushed?.Invoke();
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            PutBack(toFinish, toReschedule);
        }
        catch (Exception e) when (e is NpgsqlException or TimeoutException or System.Net.Sockets.SocketException or OperationCanceledException or IOException)
        {
            PutBack(toFinish, toReschedule);
            backOff = TimeSpan.FromMilliseconds(Math.Clamp(backOff.TotalMilliseconds * 2, 50, 2000));
            logger.RecordFailed(e, Pending, backOff);
            await Task.Delay(backOff, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task FinishAsync(NpgsqlConnection connection, List<FinishedJob> jobs)
    {
        try
        {
            Fenced(await queue.FinishAsync(connection, jobs, prepare).ConfigureAwait(false));
        }
        catch (PostgresException e) when (IsRefused(e))
        {
            // One bad value must not hold up the others, nor its own job for ever.
            foreach (var job in jobs)
                await FinishAloneAsync(connection, job).ConfigureAwait(false);
        }
    }

    private async Task FinishAloneAsync(NpgsqlConnection connection, FinishedJob job)
    {
        try
        {
            Fenced(await queue.FinishAsync(connection, [job], prepare: false).ConfigureAwait(false));
        }
        catch (PostgresException e) when (IsRefused(e) && job.Error is not null)
        {
            logger.RecordRefused(e, job.Job.Id, job.Job.Kind);
            Fenced(await queue.FinishAsync(connection, [job with { Error = null }], prepare: false).ConfigureAwait(false));
        }
    }

    private async Task RescheduleAsync(NpgsqlConnection connection, List<RescheduledJob> jobs)
    {
        if (jobs.Count == 0)
            return;
        Dictionary<Guid, JobHint> given;
        try
        {
            given = await queue.RescheduleAsync(connection, jobs).ConfigureAwait(false);
        }
        catch (PostgresException e) when (IsRefused(e))
        {
            given = [];
            foreach (var job in jobs)
            {
                foreach (var (id, hint) in await RescheduleAloneAsync(connection, job).ConfigureAwait(false))
                    given[id] = hint;
            }
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
    }

    private async Task<Dictionary<Guid, JobHint>> RescheduleAloneAsync(NpgsqlConnection connection, RescheduledJob job)
    {
        try
        {
            return await queue.RescheduleAsync(connection, [job]).ConfigureAwait(false);
        }
        catch (PostgresException e) when (IsRefused(e) && (job.Error is not null || job.Cursor is not null))
        {
            logger.RecordRefused(e, job.Job.Id, job.Job.Kind);
            return await queue.RescheduleAsync(connection, [job with { Error = null, Cursor = null }]).ConfigureAwait(false);
        }
    }

    // Class 22 and 23: the data, not the server, is at fault; the same statement would fail for ever.
    private static bool IsRefused(PostgresException e) => e.SqlState.StartsWith("22", StringComparison.Ordinal) || e.SqlState.StartsWith("23", StringComparison.Ordinal);

    private void Fenced(List<Guid> lost)
    {
        if (lost.Count == 0)
            return;
        WorkerTelemetry.WasFenced(lost.Count);
        foreach (var id in lost)
            logger.Fenced(id);
    }

    private void Written<T>(List<T> jobs)
    {
        lock (gate)
            pending -= jobs.Count;
        jobs.Clear();
    }

    private void PutBack(List<FinishedJob> toFinish, List<RescheduledJob> toReschedule)
    {
        lock (gate)
        {
            finished.InsertRange(0, toFinish);
            rescheduled.InsertRange(0, toReschedule);
        }
    }
}
