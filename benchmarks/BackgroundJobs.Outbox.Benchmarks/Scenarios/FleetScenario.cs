using BackgroundJobs.Outbox.Benchmarks.Harness;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// One, two and four worker processes on the same queue. Each has run as many jobs before as one alone has; the jobs that count become due at
// one moment, and the history tells when the last of them ended.
internal sealed class FleetScenario : IScenario
{
    public string Name => "fleet";

    public string Title => "Several worker processes";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        int[] sizes = [1, 2, 4];
        var jobs = bench.Scaled(200_000);
        var template = await bench.PreloadedAsync(jobs);
        var rates = sizes.ToDictionary(size => size, _ => new Samples());
        for (var round = 0; round < bench.Rounds; round++)
        {
            foreach (var size in sizes)
                rates[size].Add(jobs / await SecondsAsync(bench, template, size, jobs));
            Bench.Say($"round {round + 1}: {string.Join(", ", sizes.Select(size => $"{size}: {rates[size].Last:N0}"))} jobs/s");
        }

        return
        [
            Row.AtLeast("two worker processes on one queue", rates[2], "jobs/s", "one worker process", rates[1], 1),
            Row.AtLeast("four worker processes on one queue", rates[4], "jobs/s", "one worker process", rates[1], 1),
        ];
    }

    private static async Task<double> SecondsAsync(Bench bench, string template, int size, int jobs)
    {
        await using var database = await bench.CopyAsync(template);
        List<Child> workers = [];
        try
        {
            if (size > 1)
                await Bench.PreloadAsync(database.ConnectionString, (size - 1) * jobs);
            for (var n = 0; n < size; n++)
                workers.Add(Child.Role("serve", database.ConnectionString, 0));
            await Task.WhenAll(workers.Select(each => each.Ready));
            await EmptyAsync(database.ConnectionString);
            await Bench.ExecuteAsync(database.ConnectionString, "CREATE TABLE due AS SELECT date_trunc('second', now() + interval '20 s') AS at");
            await Bench.PreloadAsync(database.ConnectionString, jobs, "(SELECT at FROM due) + n * interval '1 microsecond' - interval '1 s'");
            await Bench.ExecuteAsync(database.ConnectionString, "VACUUM ANALYZE outbox.jobs; CHECKPOINT");
            await EmptyAsync(database.ConnectionString);
            return await Bench.ScalarAsync<double>(database.ConnectionString, "SELECT extract(epoch FROM (SELECT max(finished_at) FROM outbox.job_history) - at + interval '1 s')::double precision FROM due");
        }
        finally
        {
            foreach (var worker in workers)
                worker.Dispose();
        }
    }

    private static async Task EmptyAsync(string connection)
    {
        while (await Bench.ScalarAsync<bool>(connection, "SELECT EXISTS (SELECT FROM outbox.jobs)"))
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
    }
}
