using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using Hangfire;
using Hangfire.PostgreSql;
using Hangfire.PostgreSql.Factories;

namespace BackgroundJobs.Outbox.Benchmarks.Peers;

// Hangfire with Hangfire.PostgreSql, 20 workers (its default for two cores is 10), long polling by NOTIFY on.
internal static class HangfirePeer
{
    private static readonly PostgreSqlStorageOptions Options = new() { EnableLongPolling = true, EnableTransactionScopeEnlistment = true };
    private static int left;
    private static TaskCompletionSource done = new();
    private static long[] began = [];

    public static PostgreSqlStorage Storage(string connectionString) => new(new NpgsqlConnectionFactory(connectionString, Options), Options);

    // Called by Hangfire.
    public static void Work(int id)
    {
        if (id < began.Length)
            began[id] = Role.Monotonic;
        if (Interlocked.Decrement(ref left) == 0)
            done.TrySetResult();
    }

    public static Task<object> PreloadAsync(int jobs)
    {
        var client = new BackgroundJobClient(Storage(Role.ConnectionString));
        Parallel.For(0, jobs, new() { MaxDegreeOfParallelism = 8 }, n => client.Enqueue(() => Work(n)));
        return Task.FromResult<object>(new { });
    }

    public static async Task<object> DrainAsync(int warmUp, int jobs)
    {
        left = jobs + warmUp;
        done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using var server = new BackgroundJobServer(new BackgroundJobServerOptions { WorkerCount = 20 }, Storage(Role.ConnectionString));
        while (Volatile.Read(ref left) > jobs)
            await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
        var watch = Stopwatch.StartNew();
        await done.Task;
        return new { seconds = watch.Elapsed.TotalSeconds, peakMb = Role.PeakMegabytes() };
    }

    public static async Task<object> ServeAsync(int kept)
    {
        began = new long[kept];
        left = int.MaxValue;
        using var server = new BackgroundJobServer(new BackgroundJobServerOptions { WorkerCount = 20 }, Storage(Role.ConnectionString));
        await Task.Delay(TimeSpan.FromSeconds(3), TimeProvider.System);
        Console.WriteLine("ready");
        var processor = Environment.CpuUsage.TotalTime;
        await Console.In.ReadToEndAsync();
        return new { began, cpuSeconds = (Environment.CpuUsage.TotalTime - processor).TotalSeconds };
    }
}
