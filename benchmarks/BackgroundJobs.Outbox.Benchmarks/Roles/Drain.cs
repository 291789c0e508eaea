using System.Diagnostics;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// One worker process with the default settings empties the queue. Timed from the start of the host until the table is empty.
internal static class Drain
{
    public static async Task<object> RunAsync(int jobs, HistoryPolicy history)
    {
        var left = jobs;
        var handled = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var host = Role.Worker(outbox => outbox.Handle<Noop>(
            (_, _, _) =>
            {
                if (Interlocked.Decrement(ref left) == 0)
                    handled.TrySetResult();
                return Task.CompletedTask;
            },
            kind => kind.History = history));
        var allocated = GC.GetTotalAllocatedBytes();
        var processor = Environment.CpuUsage.TotalTime;
        var watch = Stopwatch.StartNew();
        await host.StartAsync();
        await handled.Task;
        await Role.UntilAsync("SELECT NOT EXISTS (SELECT FROM outbox.jobs)");
        var seconds = watch.Elapsed.TotalSeconds;
        allocated = GC.GetTotalAllocatedBytes() - allocated;
        processor = Environment.CpuUsage.TotalTime - processor;
        await host.StopAsync();
        return new
        {
            seconds,
            bytesPerJob = allocated / (double)jobs,
            microsecondsPerJob = processor.TotalMicroseconds / jobs,
            peakMb = Role.PeakMegabytes(),
        };
    }
}
