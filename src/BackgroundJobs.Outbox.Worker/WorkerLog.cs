using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.Worker;

// Every message of the worker. Never a payload, never a header, never a connection string.
internal static partial class WorkerLog
{
    [LoggerMessage(1, LogLevel.Information, "Worker {Name} started: queues {Queues}, {Kinds} kinds, lease {Lease}, {WakeUp}.")]
    public static partial void Started(this ILogger logger, string name, string queues, int kinds, TimeSpan lease, string wakeUp);

    [LoggerMessage(2, LogLevel.Information, "Worker {Name} is stopping: {Running} jobs run, they have {Timeout} to end.")]
    public static partial void Stopping(this ILogger logger, string name, int running, TimeSpan timeout);

    [LoggerMessage(3, LogLevel.Information, "Worker {Name} stopped: {Released} jobs given back, {Stuck} handlers did not end.")]
    public static partial void Stopped(this ILogger logger, string name, int released, int stuck);

    [LoggerMessage(4, LogLevel.Warning, "Worker {Name} stops hard: {Reason}.")]
    public static partial void StopsHard(this ILogger logger, string name, string reason);

    [LoggerMessage(5, LogLevel.Debug, "Job {JobId} {Kind} completed: attempt {Attempt}, {Milliseconds} ms.")]
    public static partial void Completed(this ILogger logger, Guid jobId, string kind, int attempt, double milliseconds);

    [LoggerMessage(6, LogLevel.Warning, "Job {JobId} {Kind} failed and runs again in {Delay}: attempt {Attempt}, {Milliseconds} ms, {Type}. Its message is with the job.")]
    public static partial void Retries(this ILogger logger, Guid jobId, string kind, int attempt, double milliseconds, TimeSpan delay, string? type);

    [LoggerMessage(7, LogLevel.Error, "Job {JobId} {Kind} is dead: attempt {Attempt}, {Milliseconds} ms, {Type}. Its message is with the job.")]
    public static partial void Died(this ILogger logger, Guid jobId, string kind, int attempt, double milliseconds, string? type);

    // What an exception says may come from the arguments: nobody's log has it who did not ask for it.
    [LoggerMessage(23, LogLevel.Debug, "Job {JobId} {Kind}: {Type}: {Reason}")]
    public static partial void Reason(this ILogger logger, Guid jobId, string kind, string? type, string? reason);

    [LoggerMessage(8, LogLevel.Information, "Job {JobId} {Kind} {End}: attempt {Attempt}, {Milliseconds} ms.")]
    public static partial void Ended(this ILogger logger, Guid jobId, string kind, JobEnd end, int attempt, double milliseconds);

    [LoggerMessage(9, LogLevel.Warning, "Job {JobId} was not this worker's any more when its end was to be recorded: the lease was lost, another attempt decides. Nothing was written.")]
    public static partial void Fenced(this ILogger logger, Guid jobId);

    [LoggerMessage(10, LogLevel.Error, "Job {JobId} {Kind} ignores its cancellation ({Reason}): given up after {Grace}, its slot is stuck until the handler returns. Pass the token on in the handler.")]
    public static partial void Stuck(this ILogger logger, Guid jobId, string kind, string reason, TimeSpan grace);

    [LoggerMessage(11, LogLevel.Information, "Job {JobId} {Kind}: its stuck handler returned after {Milliseconds} ms; the slot is free again.")]
    public static partial void Unstuck(this ILogger logger, Guid jobId, string kind, double milliseconds);

    [LoggerMessage(12, LogLevel.Error, "Claiming failed; tried again in {Delay}.")]
    public static partial void ClaimFailed(this ILogger logger, Exception exception, TimeSpan delay);

    [LoggerMessage(13, LogLevel.Error, "Recording {Count} ends failed; tried again in {Delay}. Nothing is lost while the lease holds.")]
    public static partial void RecordFailed(this ILogger logger, Exception exception, int count, TimeSpan delay);

    [LoggerMessage(14, LogLevel.Error, "Job {JobId} {Kind}: PostgreSQL refuses to record its end; it is recorded without its error text, or comes back later.")]
    public static partial void RecordRefused(this ILogger logger, Exception exception, Guid jobId, string kind);

    [LoggerMessage(15, LogLevel.Warning, "A heartbeat failed; the lease holds for another {Left}.")]
    public static partial void BeatFailed(this ILogger logger, Exception exception, TimeSpan left);

    [LoggerMessage(16, LogLevel.Error, "The lease could not be kept: {Running} handlers are cancelled before others may run their jobs.")]
    public static partial void LeaseLost(this ILogger logger, int running);

    [LoggerMessage(17, LogLevel.Warning, "The worker was declared dead by the others (its heartbeats came too late); it goes on under a new lease.")]
    public static partial void DeclaredDead(this ILogger logger);

    [LoggerMessage(18, LogLevel.Warning, "Rescued {Jobs} jobs of queue {Queue} from workers that died.")]
    public static partial void Rescued(this ILogger logger, long jobs, string queue);

    [LoggerMessage(31, LogLevel.Warning, "Put {Groups} groups of queue {Queue} in line again, whose jobs ended without that being told: by a worker that died at that moment, as a rule.")]
    public static partial void FreedMissed(this ILogger logger, int groups, string queue);

    [LoggerMessage(19, LogLevel.Error, "Maintenance failed; tried again at the next chance.")]
    public static partial void MaintenanceFailed(this ILogger logger, Exception exception);

    [LoggerMessage(29, LogLevel.Warning, "{Jobs} jobs that wait for others are locked or refused, and go on as soon as that ends, {JobId} among them (SQLSTATE {Error}). A lock is that of a session which pg_stat_activity shows idle in transaction, as a rule; what refuses a change is a trigger or a constraint of the application's.")]
    public static partial void HeldUp(this ILogger logger, int jobs, Guid jobId, string? error);

    [LoggerMessage(30, LogLevel.Warning, "The end of job {JobId} ({Kind}) cannot be recorded as long as somebody holds its row; it is looked at again every second. As a rule it is a session which pg_stat_activity shows idle in transaction.")]
    public static partial void EndHeldUp(this ILogger logger, Guid jobId, string kind);

    [LoggerMessage(22, LogLevel.Warning, "Gave back {Jobs} jobs that were claimed in this worker's name and that it does not know: of a claim whose answer never arrived, or of a server that took over or was restored and has forgotten their end.")]
    public static partial void GaveUnknownBack(this ILogger logger, long jobs);

    [LoggerMessage(21, LogLevel.Information, "History: {Made} days made ahead, {Dropped} days dropped.")]
    public static partial void HistoryMaintained(this ILogger logger, int made, int dropped);

    [LoggerMessage(24, LogLevel.Debug, "{Jobs} jobs enqueued by the ticks of {Schedules} schedules.")]
    public static partial void TicksEnqueued(this ILogger logger, long jobs, int schedules);

    [LoggerMessage(25, LogLevel.Error, "Schedules could not be looked after; tried again in {Delay}. Ticks are made up for as each schedule says.")]
    public static partial void SchedulesFailed(this ILogger logger, Exception exception, TimeSpan delay);

    [LoggerMessage(26, LogLevel.Error, "A schedule cannot be looked after by this worker, and is tried again in a minute: {Reason}")]
    public static partial void ScheduleUnreadable(this ILogger logger, string reason);

    [LoggerMessage(27, LogLevel.Information, "Schedule {Schedule} is declared anew.")]
    public static partial void ScheduleDeclared(this ILogger logger, string schedule);

    [LoggerMessage(28, LogLevel.Information, "The limits of queue {Queue} are declared anew.")]
    public static partial void LimitsDeclared(this ILogger logger, string queue);
}
