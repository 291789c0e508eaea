using Microsoft.Extensions.Logging;
using Npgsql;
using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Worker;

// What any worker does for all, as soon as it notices: rescue the jobs of the dead, end cancelled jobs that wait, look for groups that were forgotten, keep the
// history's days.
// No leader: each of these is safe when several do it at once.
internal sealed class MaintenanceLoop(
    JobQueue queue, NpgsqlDataSource connections, RunningAttempts running, OutboxWorkerOptions options, TimeProvider time, ILogger logger) : IDisposable
{
    // The next days' partitions are made three days ahead: a weekend without a worker leaves no gap.
    private const int DaysAhead = 3;

    private static readonly TimeSpan HistoryInterval = TimeSpan.FromHours(1);

    private static readonly TimeSpan CursorInterval = TimeSpan.FromSeconds(1);

    // From the record of an end to the word to its group it is some milliseconds.
    private static readonly TimeSpan TellingTime = TimeSpan.FromMilliseconds(200);

    private readonly WakeSignal wake = new();
    private volatile bool someoneDied;
    private volatile bool cancelledWaits;
    private volatile bool unsettled;
    private volatile bool lookForGroups;
    private long historyAt;

    // Groups of these queues have come into line.
    public event Action<IEnumerable<string>>? Freed;

    public void Heard(Beat beat)
    {
        someoneDied |= beat.SomeoneDied;
        cancelledWaits |= beat.CancelledWaits;
        unsettled |= beat.Unsettled;
        lookForGroups |= beat.LookForGroups;
        if (someoneDied || cancelledWaits || unsettled || lookForGroups || running.Count > 0)
            wake.Set();
    }

    // Jobs of workflows have ended, and what waits for them is not told yet; or jobs with a unique key were enqueued.
    public void Settle()
    {
        unsettled = true;
        wake.Set();
    }

    // Sleeps as long as nothing runs, until somebody wakes it or the history is due.
    public async Task RunAsync(CancellationToken stopping)
    {
        using var onStop = stopping.Register(wake.Set);
        while (!stopping.IsCancellationRequested)
        {
            var again = CursorInterval;
            try
            {
                await RunOnceAsync(stopping).ConfigureAwait(false);
                if (running.Count == 0)
                    again = TimeSpan.FromSeconds((double)(historyAt - time.GetTimestamp()) / time.TimestampFrequency);
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested)
            {
                return;
            }

            await wake.WaitAsync(again).ConfigureAwait(false);
        }
    }

    // Cursors of running jobs; once a second while any runs, and only what is new. A heartbeat notices that the first one runs.
    public async Task SaveCursorsAsync()
    {
        var cursors = running.NewCursors();
        if (cursors.Count == 0)
            return;
        await using var connection = await connections.OpenConnectionAsync().ConfigureAwait(false);
        await queue.SaveCursorsAsync(connection, cursors).ConfigureAwait(false);
    }

    public void Dispose() => wake.Dispose();

    private async Task RunOnceAsync(CancellationToken stopping)
    {
        if (someoneDied)
        {
            someoneDied = false;
            await StepAsync(() => RescueAsync(stopping), stopping).ConfigureAwait(false);
        }

        if (cancelledWaits)
        {
            cancelledWaits = false;
            await StepAsync(() => queue.FinishCancelledAsync(stopping), stopping).ConfigureAwait(false);
        }

        await StepAsync(SaveCursorsAsync, stopping).ConfigureAwait(false);
        if (unsettled)
        {
            unsettled = false;

            // This first, for what it ends may be a parent.
            await StepAsync(() => SettleAllAsync(connection => queue.SettleUniqueAsync(connection, stopping), stopping), stopping).ConfigureAwait(false);
            await StepAsync(() => SettleAllAsync(connection => SettleAsync(connection, stopping), stopping), stopping).ConfigureAwait(false);
        }

        if (lookForGroups)
        {
            lookForGroups = false;
            await StepAsync(() => FreeMissedAsync(stopping), stopping).ConfigureAwait(false);
        }

        var now = time.GetTimestamp();
        if (now >= historyAt)
        {
            historyAt = now + (long)(HistoryInterval.TotalSeconds * time.TimestampFrequency);
            await StepAsync(() => MaintainHistoryAsync(stopping), stopping).ConfigureAwait(false);
            await StepAsync(() => queue.ForgetTicksAsync(options.HistoryRetention, stopping), stopping).ConfigureAwait(false);
            await StepAsync(() => queue.ForgetAlongsideAsync(options.HistoryRetention, stopping), stopping).ConfigureAwait(false);
            await StepAsync(() => queue.ForgetGroupsAsync(stopping), stopping).ConfigureAwait(false);
        }
    }

    // One that fails holds up no other.
    private async Task StepAsync(Func<Task> step, CancellationToken stopping)
    {
        try
        {
            await step().ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            throw;
        }
#pragma warning disable CA1031 // Whatever it is: without this loop nobody here would rescue the jobs of the dead.
        catch (Exception e)
#pragma warning restore CA1031
        {
            connections.LeaveReadOnlyServer(e);
            logger.MaintenanceFailed(e);
        }
    }

    private async Task RescueAsync(CancellationToken stopping)
    {
        foreach (var (hint, jobs, _) in await queue.RescueAsync(options.MaxCrashes, stopping).ConfigureAwait(false))
        {
            logger.Rescued(jobs, hint.Queue);
            WorkerTelemetry.WasRescued(jobs, hint.Queue);
        }
    }

    private async Task FreeMissedAsync(CancellationToken stopping)
    {
        string[] queues = [.. options.Slots.SelectMany(each => each.Queues)];
        var freed = await queue.FreeMissedGroupsAsync(queues, TellingTime, stopping).ConfigureAwait(false);
        foreach (var (name, groups) in freed)
            logger.FreedMissed(groups, name);
        if (freed.Count > 0)
            Freed?.Invoke(freed.Select(each => each.Queue));
    }

    // However much comes: the jobs of the dead do not wait for the end of it.
    private async Task SettleAllAsync(Func<NpgsqlConnection, Task<(int Released, bool More)>> settle, CancellationToken stopping)
    {
        await using var connection = await connections.OpenConnectionAsync(stopping).ConfigureAwait(false);
        var more = true;
        while (more && !someoneDied && !stopping.IsCancellationRequested)
            more = (await settle(connection).ConfigureAwait(false)).More;
        if (more)
            Settle();
    }

    private async Task<(int Released, bool More)> SettleAsync(NpgsqlConnection connection, CancellationToken stopping)
    {
        try
        {
            return await queue.SettleAsync(connection, null, stopping).ConfigureAwait(false);
        }
        catch (PostgresException)
        {
            // If it is not one of them, but the connection or the server, this fails too.
            var (released, more, heldUp, error) = await queue.SettleApartAsync(connection, stopping).ConfigureAwait(false);
            if (heldUp.Length > 0)
                logger.HeldUp(heldUp.Length, heldUp[0], error);
            return (released, more);
        }
    }

    private async Task MaintainHistoryAsync(CancellationToken stopping)
    {
        var (made, dropped) = await queue.MaintainHistoryAsync(DaysAhead, options.HistoryRetention, stopping).ConfigureAwait(false);
        if (made + dropped > 0)
            logger.HistoryMaintained(made, dropped);
    }
}
