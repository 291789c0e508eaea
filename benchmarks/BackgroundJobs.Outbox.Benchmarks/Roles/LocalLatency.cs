using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// Enqueuer and worker in one process: from the return of SaveChanges to the start of the handler; and what one bare claim costs here.
internal static class LocalLatency
{
    private static readonly TimeSpan Gap = TimeSpan.FromMilliseconds(20);

    public static async Task<object> RunAsync(int warmUp, int jobs)
    {
        var began = new long[warmUp + jobs];
        var sent = new long[warmUp + jobs];
        using (var host = Role.Worker(outbox => outbox.Handle<Noop>((job, _, _) =>
        {
            began[job.Id] = Role.Monotonic;
            return Task.CompletedTask;
        })))
        {
            await host.StartAsync();
            for (var n = 0; n < sent.Length; n++)
            {
                await using var db = BenchDb.Open(Role.ConnectionString);
                db.Enqueue(new Noop(n));
                await db.SaveChangesAsync();
                sent[n] = Role.Monotonic;
                await Task.Delay(Gap, TimeProvider.System);
            }

            await Role.UntilAsync("SELECT NOT EXISTS (SELECT FROM outbox.jobs)");
            await host.StopAsync();
        }

        List<double> claims = [];
        await using var source = NpgsqlDataSource.Create(Role.ConnectionString);
        var queue = new JobQueue(source);
        await using var connection = await source.OpenConnectionAsync();
        WorkerRegistration worker = new(Guid.NewGuid(), "floor", "here", 1, "0", TimeSpan.FromHours(1), "{}", ["noop"]);
        queue.Register(connection, worker);
        for (var n = 0; n < warmUp + jobs; n++)
        {
            await queue.EnqueueAsync([NewJob.Create(new Noop(n))]);
            var watch = Stopwatch.StartNew();
            var claimed = (await queue.ClaimAsync(connection, [ClaimRequest.Everything("default", 10, worker.Id, ["noop"])], prepare: true))[0].Jobs;
            if (n >= warmUp)
                claims.Add(watch.Elapsed.TotalMilliseconds);
            if (claimed.Count != 1)
                throw new InvalidOperationException("The bare claim did not find its job.");
            await queue.FinishAsync(connection, [new FinishedJob(claimed[0], JobState.Completed, HistoryPolicy.Keep, null)], prepare: true);
        }

        Samples latency = new(began.Zip(sent, (at, from) => (at - from) / 1000.0).Skip(warmUp));
        return new { p50 = latency.Median, p99 = latency.Percentile(0.99), claimP50 = new Samples(claims).Median };
    }
}
