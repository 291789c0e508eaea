using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using Microsoft.Extensions.DependencyInjection;
using Quartz;

namespace BackgroundJobs.Outbox.Benchmarks.Peers;

// Quartz.NET with its ADO store, 20 threads, batches of 20 triggers.
internal static class QuartzPeer
{
    private static int left;
    private static TaskCompletionSource done = new();

    public static async Task<IScheduler> SchedulerAsync(string connectionString)
    {
        var services = new ServiceCollection().AddLogging().AddQuartz(quartz =>
        {
            quartz.ConfigureScheduler(scheduler => scheduler.MaxBatchSize = 20);
            quartz.UseDefaultThreadPool(pool => pool.MaxConcurrency = 20);
            quartz.UsePersistentStore(store =>
            {
                store.UsePostgres(connectionString);
                store.UseSystemTextJsonSerializer();
                store.ProvisionSchema();
            });
        }).BuildServiceProvider();
        return await services.GetRequiredService<ISchedulerFactory>().GetScheduler();
    }

    public static async Task EnqueueAsync(IScheduler scheduler, int id)
    {
        var job = JobBuilder.Create<Work>().WithIdentity(Guid.NewGuid().ToString()).UsingJobData("id", $"{id}").Build();
        await scheduler.ScheduleJob(job, TriggerBuilder.Create().WithIdentity(job.Key.Name).StartNow().Build());
    }

    public static async Task<object> PreloadAsync(int jobs)
    {
        var scheduler = await SchedulerAsync(Role.ConnectionString);
        for (var n = 0; n < jobs; n++)
            await EnqueueAsync(scheduler, n);
        await scheduler.Shutdown();
        return new { };
    }

    public static async Task<object> DrainAsync(int warmUp, int jobs)
    {
        left = jobs + warmUp;
        done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        var scheduler = await SchedulerAsync(Role.ConnectionString);
        await scheduler.Start();
        while (Volatile.Read(ref left) > jobs)
            await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
        var watch = Stopwatch.StartNew();
        await done.Task;
        var seconds = watch.Elapsed.TotalSeconds;
        await scheduler.Shutdown();
        return new { seconds };
    }

    internal sealed class Work : Quartz.IJob
    {
        public ValueTask Execute(IJobExecutionContext context, CancellationToken cancellationToken)
        {
            if (Interlocked.Decrement(ref left) == 0)
                done.TrySetResult();
            return ValueTask.CompletedTask;
        }
    }
}
