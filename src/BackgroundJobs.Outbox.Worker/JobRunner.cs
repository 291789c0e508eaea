using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.Worker;

// Turns a claimed job into an outcome: find the handler, read the arguments, call it. Calls user code; never the database.
internal sealed class JobRunner(
    OutboxOptions options,
    IServiceScopeFactory scopes,
    WorkerLease lease,
    OutcomeWriter outcomes,
    Func<ClaimedJob, string, string, Task> keepStep,
    Func<ClaimedJob, CancellationToken, Task<IReadOnlyList<EndedJob>>> readParents,
    TimeProvider time,
    ILogger logger,
    CancellationToken stopping)
{
    public async Task RunAsync(ClaimedJob job, RunningSlot slot)
    {
        if (!options.Registry!.TryFind(job.Kind, out var registration))
            throw new InvalidOperationException($"A job of the unknown kind '{job.Kind}' was claimed.");

        var attempt = new Attempt(job, registration, time.GetTimestamp());
        slot.Attempt = attempt;

        // Asked after the attempt can be seen: a lease that is lost from here on cancels it, one that was lost before is seen here.
        if (!lease.Covers(job))
        {
            slot.Attempt = null;
            outcomes.Release(job);
            return;
        }

        using var activity = WorkerTelemetry.Start(job);
        var outcome = await AttemptAsync(attempt).ConfigureAwait(false);
        slot.Attempt = null;

        var duration = time.GetElapsedTime(attempt.StartedAt);
        if (attempt.TryEnd())
            End(attempt, outcome, duration, activity);
        else
            logger.Unstuck(job.Id, job.Kind, duration.TotalMilliseconds);
    }

    // For an attempt that was given up: its handler still runs, its outcome is decided.
    public void GiveUp(Attempt attempt, JobOutcome outcome) => End(attempt, outcome, time.GetElapsedTime(attempt.StartedAt), null);

    private async ValueTask<JobOutcome> AttemptAsync(Attempt attempt)
    {
        JobContext? context = null;
        try
        {
            var services = new HandlerServices(scopes);
            await using (services.ConfigureAwait(false))
            {
                context = attempt.Context = new JobContext(attempt.Job, services, options, stopping) { StepKeeper = keepStep, ParentReader = readParents };
                var args = attempt.Registration.ReadArgs(attempt.Job, options);
                await attempt.Registration.RunAsync(args, context, attempt.Token).ConfigureAwait(false);
            }

            return JobOutcomes.OfReturn(attempt, context);
        }
#pragma warning disable CA1031 // Whatever user code throws is the outcome of this attempt, never the end of the worker.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return JobOutcomes.OfException(attempt, context, e);
        }
    }

    private void End(Attempt attempt, JobOutcome outcome, TimeSpan duration, Activity? activity)
    {
        var job = attempt.Job;
        var milliseconds = duration.TotalMilliseconds;
        outcomes.Add(attempt, outcome);
        WorkerTelemetry.Ended(job, outcome, duration, activity);
        switch (outcome.End)
        {
            case JobEnd.Completed or JobEnd.Recorded:
                logger.Completed(job.Id, job.Kind, job.Attempt, milliseconds);
                break;
            case JobEnd.Retry:
                logger.Retries(job.Id, job.Kind, job.Attempt, milliseconds, outcome.Delay, outcome.Error?.Type);
                break;
            case JobEnd.Dead:
                logger.Died(job.Id, job.Kind, job.Attempt, milliseconds, outcome.Error?.Type);
                break;
            default:
                logger.Ended(job.Id, job.Kind, outcome.End, job.Attempt, milliseconds);
                break;
        }

        if (outcome.Error is { } error)
            logger.Reason(job.Id, job.Kind, error.Type, error.Message);
    }
}
