using System.Diagnostics;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// One worker process with the default settings empties the queue. The first jobs warm the runtime up; timed from the last of them until the
// table is empty.
internal static class Drain
{
    public static async Task<object> RunAsync(int warmUp, int jobs, HistoryPolicy history)
    {
        var handled = 0;
        var warm = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var host = Role.Worker(outbox => outbox.Handle<Noop>(
            (_, _, _) =>
            {
                var now = Interlocked.Increment(ref handled);
                if (now == warmUp)
                    warm.TrySetResult();
                if (now == warmUp + jobs)
                    all.TrySetResult();
                return Task.CompletedTask;
            },
            kind => kind.History = history));
        var cold = Stopwatch.StartNew();
        await host.StartAsync();
        if (warmUp > 0)
            await warm.Task;
        var halfPeakMb = Role.PeakMegabytes();
        var watch = Stopwatch.StartNew();
        var allocated = GC.GetTotalAllocatedBytes();
        var processor = Environment.CpuUsage.TotalTime;
        await all.Task;
        await Role.UntilAsync("SELECT NOT EXISTS (SELECT FROM outbox.jobs)");
        var seconds = watch.Elapsed.TotalSeconds;
        allocated = GC.GetTotalAllocatedBytes() - allocated;
        processor = Environment.CpuUsage.TotalTime - processor;
        var coldSeconds = cold.Elapsed.TotalSeconds;
        await host.StopAsync();
        return new
        {
            seconds,
            coldSeconds,
            bytesPerJob = allocated / (double)jobs,
            microsecondsPerJob = processor.TotalMicroseconds / jobs,
            halfPeakMb,
            peakMb = Role.PeakMegabytes(),
        };
    }
}
