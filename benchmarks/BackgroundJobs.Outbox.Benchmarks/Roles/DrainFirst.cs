using System.Diagnostics;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// The first jobs of a queue that has more: timed from the end of the warm-up (without one: from the start of the host) to the start of the
// last of them; then the process is killed.
internal static class DrainFirst
{
    public static async Task<object> RunAsync(int warmUp, int jobs)
    {
        var handled = 0;
        var watch = Stopwatch.StartNew();
        TaskCompletionSource<double> all = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using var host = Role.Worker(outbox => outbox.Handle<Noop>((_, _, _) =>
        {
            var now = Interlocked.Increment(ref handled);
            if (now == warmUp)
                watch.Restart();
            if (now == warmUp + jobs)
                all.TrySetResult(watch.Elapsed.TotalSeconds);
            return Task.CompletedTask;
        }));
        await host.StartAsync();
        Console.WriteLine(System.Text.Json.JsonSerializer.Serialize(new { seconds = await all.Task }));
        Process.GetCurrentProcess().Kill();
        return new { };
    }
}
