using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Collects outcomes and records them in batches: while one batch is on its way, the next one gathers. So one outcome alone is recorded at
// once, and under load a batch is as large as it needs to be. What cannot be written is kept and tried again; the fence makes that safe.
internal sealed class OutcomeWriter(OutcomeRecorder recorder, HeldJobs held, NpgsqlDataSource connections, TimeProvider time, ILogger logger) : IDisposable
{
    private const int MaxBatch = 5000;

    private readonly WakeSignal added = new();
    private readonly ConcurrentQueue<FinishedJob> finished = new();
    private readonly ConcurrentQueue<RescheduledJob> rescheduled = new();

    // On their way, or to be tried again.
    private readonly List<FinishedJob> toFinish = new(MaxBatch);
    private readonly List<RescheduledJob> toReschedule = [];

    // Of workflows, and ended: what waits for them is told. If that is lost, a heartbeat finds what was left.
    private readonly ConcurrentQueue<Guid> ended = new();
    private readonly List<Guid> toSettle = [];
    private readonly LeavingJobs leaving = new(recorder, connections, time, logger);
    private readonly HeldUpEnds heldUp = new(recorder, connections, time, logger);
    private int pending;
    private int pendingSuspects;
    private volatile bool completed;
    private TimeSpan backOff;

    // Ends that are not in the database yet.
    public int Pending => Volatile.Read(ref pending);

    // Of jobs that crashed workers before: until their end is in the database, the next crash would be charged to them too.
    public int PendingSuspects => Volatile.Read(ref pendingSuspects);

    public event Action? Flushed;

    public event Action? Unsettled;

    public event Action<IEnumerable<string>>? Freed
    {
        add => leaving.Freed += value;
        remove => leaving.Freed -= value;
    }

    public void Add(Attempt attempt, JobOutcome outcome)
    {
        var job = attempt.Job;
        switch (outcome.End)
        {
            case JobEnd.Completed:
                Add(new FinishedJob(job, JobState.Completed, attempt.Registration.Options.History, null, Result: attempt.Context?.ResultJson));
                break;
            case JobEnd.Cancelled:
                Add(new FinishedJob(job, JobState.Cancelled, HistoryPolicy.Keep, outcome.Error, attempt.TakeNewCursor()));
                break;
            case JobEnd.Dead:
                Add(new FinishedJob(job, JobState.Dead, HistoryPolicy.Keep, outcome.Error, attempt.TakeNewCursor()));
                break;
            case JobEnd.Retry:
                Add(new RescheduledJob(job, outcome.Delay, true, outcome.Error, attempt.TakeNewCursor()));
                break;
            case JobEnd.Snooze:
                Add(new RescheduledJob(job, outcome.Delay, false, null, attempt.TakeNewCursor(), outcome.PushesBack));
                break;
            case JobEnd.Release:
                Add(new RescheduledJob(job, null, false, null, attempt.TakeNewCursor()));
                break;
            case JobEnd.Recorded:
                held.Remove(job);
                if (job.Limited)
                    leaving.Add(job);
                if (job.WorkflowId is not null)
                {
                    ended.Enqueue(job.Id);
                    added.Set();
                }

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
        using var written = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var told = leaving.RunAsync(cancellationToken);
        var freed = heldUp.RunAsync(written.Token);
        await WriteAsync(cancellationToken).ConfigureAwait(false);
        await written.CancelAsync().ConfigureAwait(false);
        leaving.Complete();
        await Task.WhenAll(told, freed).ConfigureAwait(false);
    }

    private async Task WriteAsync(CancellationToken cancellationToken)
    {
        using var onCancel = cancellationToken.Register(added.Set);
        while (!cancellationToken.IsCancellationRequested)
        {
            if (toFinish.Count + toReschedule.Count == 0 && finished.IsEmpty && rescheduled.IsEmpty && ended.IsEmpty)
            {
                if (completed && Pending == 0)
                    return;
                await added.WaitAsync().ConfigureAwait(false);
            }

            while (toFinish.Count < MaxBatch && finished.TryDequeue(out var job))
                toFinish.Add(job);
            while (toReschedule.Count < MaxBatch && rescheduled.TryDequeue(out var job))
                toReschedule.Add(job);
            while (toSettle.Count < MaxBatch && ended.TryDequeue(out var job))
                toSettle.Add(job);
            if (toFinish.Count + toReschedule.Count + toSettle.Count > 0)
                await FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    // No more outcomes will come.
    public void Complete()
    {
        completed = true;
        added.Set();
    }

    public void Dispose()
    {
        leaving.Dispose();
        heldUp.Dispose();
        added.Dispose();
    }

    private void Add(FinishedJob job)
    {
        finished.Enqueue(job);
        Count(job.Job, 1);
        added.Set();
    }

    private void Add(RescheduledJob job)
    {
        rescheduled.Enqueue(job);
        Count(job.Job, 1);
        added.Set();
    }

    private async Task FlushAsync(CancellationToken cancellationToken)
    {
        try
        {
            await using var connection = await connections.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
            HoldUp(toFinish, await recorder.FinishAsync(connection, toFinish).ConfigureAwait(false), static each => each.Job, finished);
            toSettle.AddRange(toFinish.Where(each => each.Job.WorkflowId is not null).Select(each => each.Job.Id));
            Written(toFinish, static each => each.Job);
            HoldUp(toReschedule, await recorder.RescheduleAsync(connection, toReschedule).ConfigureAwait(false), static each => each.Job, rescheduled);
            Written(toReschedule, static each => each.Job);
            if (toSettle.Count > 0 && await recorder.SettleAsync(connection, toSettle).ConfigureAwait(false))
                Unsettled?.Invoke();
            toSettle.Clear();
            backOff = TimeSpan.Zero;
            Flushed?.Invoke();
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // They stay where they are.
        }
#pragma warning disable CA1031 // Whatever it is: ends that nobody writes would keep their jobs claimed as long as this process beats.
        catch (Exception e)
#pragma warning restore CA1031
        {
            connections.LeaveReadOnlyServer(e);
            toSettle.Clear();
            backOff = TimeSpan.FromMilliseconds(Math.Clamp(backOff.TotalMilliseconds * 2, 50, 2000));
            logger.RecordFailed(e, Pending, backOff);
            await Task.Delay(backOff, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    // They are still to be written, but not with these.
    private void HoldUp<T>(List<T> jobs, List<T> locked, Func<T, ClaimedJob> job, ConcurrentQueue<T> later)
    {
        foreach (var each in locked)
        {
            jobs.Remove(each);
            heldUp.Add(job(each), () =>
            {
                later.Enqueue(each);
                added.Set();
            });
        }
    }

    private void Written<T>(List<T> jobs, Func<T, ClaimedJob> job)
    {
        foreach (var each in jobs)
        {
            Count(job(each), -1);
            held.Remove(job(each));
            if (job(each).Limited)
                leaving.Add(job(each));
        }

        jobs.Clear();
    }

    private void Count(ClaimedJob job, int by)
    {
        Interlocked.Add(ref pending, by);
        if (job.IsSuspect)
            Interlocked.Add(ref pendingSuspects, by);
    }
}
