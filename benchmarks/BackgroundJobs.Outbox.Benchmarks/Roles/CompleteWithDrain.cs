using System.Diagnostics;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// Jobs whose effect and completion are one COMMIT of the handler's; and the floor, the same effect and a DELETE by hand in one COMMIT.
internal static class CompleteWithDrain
{
    private const int Parallel = 10;

    public static async Task<object> RunAsync(int warmUp, int jobs)
    {
        var handled = 0;
        Stopwatch watch = new();
        var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var host = Role.Worker(
            outbox => outbox.Handle<Noop>(async (job, context, token) =>
            {
                var db = context.Services.GetRequiredService<BenchDb>();
                db.Effects.Add(new() { Number = job.Id });
                context.CompleteWith(db);
                await db.SaveChangesAsync(token);
                Count();
            }),
            worker => worker.Queue("default", Parallel),
            services => services.AddDbContext<BenchDb>(options => options.UseNpgsql(Role.ConnectionString).UseOutbox()));
        await host.StartAsync();
        await all.Task;
        var seconds = watch.Elapsed.TotalSeconds;
        await host.StopAsync();
        return new { seconds };

        void Count()
        {
            var now = Interlocked.Increment(ref handled);
            if (now == warmUp)
                watch.Start();
            if (now == warmUp + jobs)
                all.TrySetResult();
        }
    }

    public static async Task<object> FloorAsync(int warmUp, int jobs)
    {
        var services = new ServiceCollection().AddDbContext<BenchDb>(options => options.UseNpgsql(Role.ConnectionString)).BuildServiceProvider();
        await using var ending = services;
        var ids = new List<Guid>();
        await using (var scope = services.CreateAsyncScope())
            ids = await scope.ServiceProvider.GetRequiredService<BenchDb>().PlainJobs.OrderBy(job => job.RunAt).Select(job => job.Id).Take(warmUp + jobs).ToListAsync();
        var next = -1;
        Stopwatch watch = new();
        await Task.WhenAll(Enumerable.Range(0, Parallel).Select(_ => Task.Run(async () =>
        {
            for (var at = Interlocked.Increment(ref next); at < ids.Count; at = Interlocked.Increment(ref next))
            {
                if (at == warmUp)
                    watch.Start();
                await using var scope = services.CreateAsyncScope();
                var db = scope.ServiceProvider.GetRequiredService<BenchDb>();
                db.Effects.Add(new() { Number = at });
                db.PlainJobs.Remove(new() { Id = ids[at] });
                await db.SaveChangesAsync();
            }
        })));
        return new { seconds = watch.Elapsed.TotalSeconds };
    }
}
