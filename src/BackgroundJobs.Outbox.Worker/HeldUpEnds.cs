using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace BackgroundJobs.Outbox.Worker;

// Ends that cannot be recorded, because somebody holds the rows of their jobs: an operator's open transaction, say. They are looked at once a
// second, and go back to the writer when they are free; no other end waits with them.
internal sealed class HeldUpEnds(OutcomeRecorder recorder, NpgsqlDataSource connections, TimeProvider time, ILogger logger) : IDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly WakeSignal added = new();
    private readonly ConcurrentQueue<(ClaimedJob Job, Action Again)> incoming = new();
    private readonly List<(ClaimedJob Job, Action Again)> waiting = [];

    // again: puts it back, on the thread of this loop.
    public void Add(ClaimedJob job, Action again)
    {
        logger.EndHeldUp(job.Id, job.Kind);
        incoming.Enqueue((job, again));
        added.Set();
    }

    // Runs until it is cancelled.
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var onCancel = cancellationToken.Register(added.Set);
        while (!cancellationToken.IsCancellationRequested)
        {
            while (incoming.TryDequeue(out var each))
                waiting.Add(each);
            if (waiting.Count == 0)
            {
                await added.WaitAsync().ConfigureAwait(false);
                continue;
            }

            await Task.Delay(Interval, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            try
            {
                await using var connection = await connections.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
                var locked = await recorder.ListLockedAsync(connection, waiting.Select(each => each.Job)).ConfigureAwait(false);
                foreach (var (job, again) in waiting.Where(each => !locked.Contains(each.Job.Id)))
                    again();
                waiting.RemoveAll(each => !locked.Contains(each.Job.Id));
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
                logger.RecordFailed(e, waiting.Count, Interval);
            }
        }
    }

    public void Dispose() => added.Dispose();
}
