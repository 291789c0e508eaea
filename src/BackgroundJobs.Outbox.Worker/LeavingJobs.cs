using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace BackgroundJobs.Outbox.Worker;

// Jobs of queues with limits that have ended or were given back, and that is written: there may be room for others of their groups. A loop of its
// own, because it may wait for a claim, and the next ends must not. If it is lost, it is noticed half a minute later.
internal sealed class LeavingJobs(OutcomeRecorder recorder, NpgsqlDataSource connections, TimeProvider time, ILogger logger) : IDisposable
{
    private const int MaxBatch = 5000;

    private readonly WakeSignal added = new();
    private readonly ConcurrentQueue<ClaimedJob> leaving = new();
    private readonly List<ClaimedJob> left = [];
    private volatile bool completed;

    public event Action<IEnumerable<string>>? Freed;

    public void Add(ClaimedJob job)
    {
        leaving.Enqueue(job);
        added.Set();
    }

    // Runs until Complete was called and everything is told, or until it is cancelled.
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var onCancel = cancellationToken.Register(added.Set);
        var backOff = TimeSpan.Zero;
        while (!cancellationToken.IsCancellationRequested)
        {
            while (left.Count < MaxBatch && leaving.TryDequeue(out var job))
                left.Add(job);
            if (left.Count == 0)
            {
                if (completed)
                    return;
                await added.WaitAsync().ConfigureAwait(false);
                continue;
            }

            try
            {
                await using var connection = await connections.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
                await recorder.FreeAsync(connection, left).ConfigureAwait(false);
                Freed?.Invoke(left.Select(each => each.Queue));
                left.Clear();
                backOff = TimeSpan.Zero;
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                // It is noticed half a minute later.
            }
#pragma warning disable CA1031 // Whatever it is: groups that nobody frees would wait half a minute each time.
            catch (Exception e)
#pragma warning restore CA1031
            {
                connections.LeaveReadOnlyServer(e);
                backOff = TimeSpan.FromMilliseconds(Math.Clamp(backOff.TotalMilliseconds * 2, 50, 2000));
                logger.RecordFailed(e, left.Count, backOff);
                await Task.Delay(backOff, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    // No more will come.
    public void Complete()
    {
        completed = true;
        added.Set();
    }

    public void Dispose() => added.Dispose();
}
