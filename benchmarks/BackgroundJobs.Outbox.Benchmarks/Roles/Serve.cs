using System.Diagnostics;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// A worker that runs until its standard input ends, and then says when each job began, by the machine's clock, and what it used meanwhile. Work: how
// long each job takes, in ms.
internal static class Serve
{
    public static async Task<object> RunAsync(int kept, int settle, int work)
    {
        var began = new long[kept];
        var handled = 0L;
        using var host = Role.Worker(outbox => outbox.Handle<Noop>(async (job, _, cancellationToken) =>
        {
            if (job.Id < began.Length)
                began[job.Id] = Role.Monotonic;
            if (work > 0)
                await Task.Delay(TimeSpan.FromMilliseconds(work), TimeProvider.System, cancellationToken);
            Interlocked.Increment(ref handled);
        }));
        await host.StartAsync();

        // The listener connects beside the start.
        await Role.UntilAsync("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%')");
        // What a start costs is over by then.
        await Task.Delay(TimeSpan.FromSeconds(settle), TimeProvider.System);
        Console.WriteLine("ready");
        var processor = Environment.CpuUsage.TotalTime;
        var watch = Stopwatch.StartNew();
        await Console.In.ReadToEndAsync();
        processor = Environment.CpuUsage.TotalTime - processor;
        var seconds = watch.Elapsed.TotalSeconds;
        await host.StopAsync();
        return new { began, handled, cpuSeconds = processor.TotalSeconds, seconds, peakMb = Role.PeakMegabytes() };
    }
}
