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
    private static long[] began = [];

    public static PostgreSqlStorage Storage(string connectionString) => new(new NpgsqlConnectionFactory(connectionString, Options), Options);

    // Called by Hangfire.
    public static void Work(int id)
    {
        if (id < began.Length)
            began[id] = Role.Monotonic;
        Interlocked.Decrement(ref left);
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
        using var server = new BackgroundJobServer(new BackgroundJobServerOptions { WorkerCount = 20 }, Storage(Role.ConnectionString));
        await UntilAsync(jobs);
        var watch = Stopwatch.StartNew();

        // A few of its jobs now and then come much later, or not at all: the last hundredth is not waited for.
        await UntilAsync(jobs / 100);
        return new { seconds = watch.Elapsed.TotalSeconds * jobs / (jobs - Volatile.Read(ref left)), peakMb = Role.PeakMegabytes() };

        static async Task UntilAsync(int atMost)
        {
            while (Volatile.Read(ref left) > atMost)
                await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
        }
    }

    public static async Task<object> ServeAsync(int kept, int settle)
    {
        began = new long[kept];
        left = int.MaxValue;
        using var server = new BackgroundJobServer(new BackgroundJobServerOptions { WorkerCount = 20 }, Storage(Role.ConnectionString));
        await Task.Delay(TimeSpan.FromSeconds(settle), TimeProvider.System);
        Console.WriteLine("ready");
        var processor = Environment.CpuUsage.TotalTime;
        await Console.In.ReadToEndAsync();
        return new { began, cpuSeconds = (Environment.CpuUsage.TotalTime - processor).TotalSeconds };
    }
}
