using System.Diagnostics;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using BackgroundJobs.Outbox.Postgres;
using Npgsql;
using NpgsqlTypes;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// 100,000 jobs in one call, against a bare binary COPY of the same rows into the same table.
internal sealed class BulkScenario : IScenario
{
    public string Name => "bulk";

    public string Title => "Bulk enqueue";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = bench.Scaled(100_000);
        var template = await bench.MigratedAsync();
        Samples ours = new(), copy = new();

        // Half a second each, and single ones differ by a third: more often than the others, each in a new database, and each as often the first.
        for (var round = -1; round < 3 * bench.Rounds; round++)
        {
            if (round % 2 != 0)
                await RateAsync(copy, CopyAsync);
            await RateAsync(ours, EnqueueAsync);
            if (round % 2 == 0)
                await RateAsync(copy, CopyAsync);
            if (round >= 0)
                Bench.Say($"round {round + 1}: {ours.Last:N0} jobs/s, COPY {copy.Last:N0}");

            async Task RateAsync(Samples rates, Func<NpgsqlDataSource, int, Task> write)
            {
                await using var database = await bench.CopyAsync(template);
                await using var source = NpgsqlDataSource.Create(database.ConnectionString);
                await Bench.ExecuteAsync(database.ConnectionString, "CHECKPOINT");
                var watch = Stopwatch.StartNew();
                await write(source, jobs);
                if (round >= 0)
                    rates.Add(jobs / watch.Elapsed.TotalSeconds);
            }
        }

        return [Row.AtLeast("bulk enqueue of 100,000 jobs", ours, "jobs/s", "a bare COPY into the same table", copy, 0.8)];
    }

    private static Task EnqueueAsync(NpgsqlDataSource source, int jobs) => new JobQueue(source).EnqueueAsync(Enumerable.Range(0, jobs).Select(n => NewJob.Create(new Noop(n))));

    private static async Task CopyAsync(NpgsqlDataSource source, int jobs)
    {
        await using var connection = await source.OpenConnectionAsync();
        await using var copy = await connection.BeginBinaryImportAsync(
            "COPY outbox.jobs (id, kind, args, queue, priority, run_at, max_attempts, headers, traceparent) FROM STDIN (FORMAT binary)");
        var now = TimeProvider.System.GetUtcNow().UtcDateTime;
        for (var n = 0; n < jobs; n++)
        {
            await copy.StartRowAsync();
            await copy.WriteAsync(Guid.CreateVersion7());
            await copy.WriteAsync("noop");
            await copy.WriteAsync($$"""{"id":{{n}}}""", NpgsqlDbType.Jsonb);
            await copy.WriteAsync("default");
            await copy.WriteAsync((short)2);
            await copy.WriteAsync(now, NpgsqlDbType.TimestampTz);
            await copy.WriteAsync((short)20);
            await copy.WriteNullAsync();
            await copy.WriteNullAsync();
        }

        await copy.CompleteAsync();
    }
}
