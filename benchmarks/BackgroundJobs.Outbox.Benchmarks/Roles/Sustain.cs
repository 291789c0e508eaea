using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// Enqueues a round of jobs, runs them, and again, for some time; says how many were done in each ten seconds.
internal static class Sustain
{
    public static async Task<object> RunAsync(int seconds, int round)
    {
        var left = 0;
        TaskCompletionSource done = new();
        using var host = Role.Worker(outbox => outbox.Handle<Noop>((_, _, _) =>
        {
            if (Interlocked.Decrement(ref left) == 0)
                Volatile.Read(ref done).TrySetResult();
            return Task.CompletedTask;
        }));
        await host.StartAsync();
        await using var source = NpgsqlDataSource.Create(Role.ConnectionString);
        var queue = new JobQueue(source);
        Console.WriteLine("ready");
        var began = Role.Monotonic;
        var buckets = new long[(seconds / 10) + 1];
        for (var at = 0.0; at < seconds; at = (Role.Monotonic - began) / 1e6)
        {
            Volatile.Write(ref done, new(TaskCreationOptions.RunContinuationsAsynchronously));
            Volatile.Write(ref left, round);
            await queue.EnqueueAsync([.. Enumerable.Range(0, round).Select(n => NewJob.Create(new Noop(n)))]);
            await done.Task;
            buckets[Math.Min((int)((Role.Monotonic - began) / 10_000_000), buckets.Length - 1)] += round;
        }

        await host.StopAsync();
        return new { done = buckets[..(seconds / 10)] };
    }
}
