using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// A transaction that enqueues, and commits half a minute later, when the workers have long gone past its place in the queue.
internal sealed class LateCommitScenario : IScenario
{
    private const int Jobs = 100;

    public string Name => "late-commit";

    public string Title => "A late commit";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        Samples latest = new();
        for (var round = 0; round < bench.Rounds; round++)
        {
            await using var database = await bench.CopyAsync(await LatencyScenario.TemplateAsync(bench));
            using var worker = Child.Role("serve", database.ConnectionString, Jobs);
            await worker.Ready;
            await using var late = BenchDb.Open(database.ConnectionString);
            await using var transaction = await late.Database.BeginTransactionAsync();
            for (var n = 0; n < Jobs; n++)
                late.Enqueue(new Noop(n));
            await late.SaveChangesAsync();
            using CancellationTokenSource ended = new(bench.Scaled(TimeSpan.FromSeconds(30)), TimeProvider.System);
            while (!ended.IsCancellationRequested)
            {
                await using var db = BenchDb.Open(database.ConnectionString);
                db.Enqueue(new Noop(Jobs));
                await db.SaveChangesAsync();
            }

            await transaction.CommitAsync();
            var committed = Role.Monotonic;
            await Task.Delay(TimeSpan.FromSeconds(5), TimeProvider.System);
            worker.Stop();
            var began = (await worker.AnswerAsync(TimeSpan.FromMinutes(1))).GetProperty("began").EnumerateArray().Select(each => each.GetInt64()).ToList();
            if (began.Contains(0))
                throw new InvalidOperationException("A job of the late transaction has not begun.");
            latest.Add((began.Max() - committed) / 1e6);
            Bench.Say($"round {round + 1}: the last of {Jobs} began {latest.Last:F3} s after the commit");
        }

        return [Row.Below("start of the last of 100 jobs of a transaction that commits 30 s late", latest, "s", 1)];
    }
}
