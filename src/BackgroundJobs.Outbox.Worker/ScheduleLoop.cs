using System.Text.Json;
using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// Enqueues the jobs of schedules when they are due. Every worker tries, without a leader: a tick is enqueued by whoever moves its schedule on.
// Heartbeats tell when to look, so that a system without schedules asks nothing.
internal sealed class ScheduleLoop(JobQueue queue, NpgsqlDataSource connections, OutboxWorkerOptions options, TimeProvider time, ILogger logger) : IDisposable
{
    // For as long, a schedule that this worker cannot read is left to others, or to whoever mends it.
    private static readonly TimeSpan UnreadableFor = TimeSpan.FromMinutes(1);

    // Between two looks that found something due and nothing to move: somebody else is moving it.
    private static readonly TimeSpan Shortest = TimeSpan.FromMilliseconds(100);

    private static readonly TimeSpan Longest = TimeSpan.FromHours(1);

    private readonly WakeSignal wake = new();
    private readonly Dictionary<string, long> unreadable = new(StringComparer.Ordinal);
    private long dueAt = long.MaxValue;

    public void Heard(Beat beat)
    {
        if (beat.NextTick is not { } next)
            return;
        var at = After(next - beat.Now);
        if (at >= Volatile.Read(ref dueAt))
            return;
        Volatile.Write(ref dueAt, at);
        wake.Set();
    }

    public async Task RunAsync(CancellationToken stopping)
    {
        using var onStop = stopping.Register(wake.Set);
        while (!stopping.IsCancellationRequested)
        {
            var left = Left();
            if (left > TimeSpan.Zero)
            {
                await wake.WaitAsync(left).ConfigureAwait(false);
                continue;
            }

            try
            {
                var next = await RunOnceAsync(stopping).ConfigureAwait(false);
                Volatile.Write(ref dueAt, next is { } until ? After(until) : long.MaxValue);
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // Whatever it is: without this loop no worker might enqueue what is due.
            catch (Exception e)
#pragma warning restore CA1031
            {
                connections.LeaveReadOnlyServer(e);
                logger.SchedulesFailed(e, options.PollInterval);
                Volatile.Write(ref dueAt, After(options.PollInterval));
            }
        }
    }

    public void Dispose() => wake.Dispose();

    // How long until the next look; null: until a heartbeat says so.
    private async Task<TimeSpan?> RunOnceAsync(CancellationToken stopping)
    {
        foreach (var name in unreadable.Where(each => each.Value <= time.GetTimestamp()).Select(each => each.Key).ToList())
            unreadable.Remove(name);
        var (due, next) = await queue.DueSchedulesAsync([.. unreadable.Keys], stopping).ConfigureAwait(false);
        if (due.Count == 0)
            return next > Shortest || next is null ? next : Shortest;

        List<ScheduleMove> moves = [];
        foreach (var schedule in due)
        {
            try
            {
                moves.Add(queue.MoveOf(schedule));
            }
#pragma warning disable CA1031 // Whatever it is: one schedule that cannot be read here must not hold up the others.
            catch (Exception e)
#pragma warning restore CA1031
            {
                var why = e is OutboxException or JsonException ? e.Message : $"Schedule '{schedule.Name}' cannot be read here: {e.GetType().Name}.";
                await LeaveAsync(schedule, why, why, stopping).ConfigureAwait(false);
            }
        }

        try
        {
            await EnqueueAsync(moves, stopping).ConfigureAwait(false);
        }
        catch (PostgresException e) when (IsOfTheJob(e))
        {
            // One that PostgreSQL refuses (a trigger of the application's, say) must not hold up the others.
            foreach (var move in moves)
                await EnqueueAloneAsync(move, stopping).ConfigureAwait(false);
        }

        return Shortest;
    }

    private async Task EnqueueAloneAsync(ScheduleMove move, CancellationToken stopping)
    {
        try
        {
            await EnqueueAsync([move], stopping).ConfigureAwait(false);
        }
        catch (PostgresException e) when (IsOfTheJob(e))
        {
            // What it says may come from the arguments: it stands with the schedule, as what a job fails with stands with the job, and in no log.
            var refused = $"Schedule '{move.Schedule.Name}': PostgreSQL refuses its job ({e.SqlState}";
            await LeaveAsync(move.Schedule, $"{refused} {e.MessageText}).", $"{refused}).", stopping).ConfigureAwait(false);
        }
    }

    private async Task EnqueueAsync(List<ScheduleMove> moves, CancellationToken stopping)
    {
        if (moves.Count == 0)
            return;
        var jobs = await queue.EnqueueTicksAsync(moves, stopping).ConfigureAwait(false);
        logger.TicksEnqueued(jobs, moves.Count);
    }

    // Not of the server: one that only reads, or is busy, refuses everybody.
    private static bool IsOfTheJob(PostgresException e) => !e.IsTransient && e.SqlState != PostgresErrorCodes.ReadOnlySqlTransaction;

    private async Task LeaveAsync(DueSchedule schedule, string problem, string logged, CancellationToken stopping)
    {
        unreadable[schedule.Name] = After(UnreadableFor);
        logger.ScheduleUnreadable(logged);
        await queue.NoteScheduleProblemAsync(schedule, problem, stopping).ConfigureAwait(false);
    }

    private TimeSpan Left()
    {
        var due = Volatile.Read(ref dueAt);
        if (due == long.MaxValue)
            return Longest;
        var left = TimeSpan.FromSeconds((double)(due - time.GetTimestamp()) / time.TimestampFrequency);
        return left < Longest ? left : Longest;
    }

    private long After(TimeSpan wait) => time.GetTimestamp() + (long)(Math.Clamp(wait.TotalSeconds, 0, Longest.TotalSeconds) * time.TimestampFrequency);
}
