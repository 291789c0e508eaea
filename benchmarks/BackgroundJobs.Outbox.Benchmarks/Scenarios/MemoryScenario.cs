using BackgroundJobs.Outbox.Benchmarks.Harness;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// The memory of a worker process that drains 1,000,000 jobs.
internal sealed class MemoryScenario : IScenario
{
    public string Name => "memory";

    public string Title => "Memory";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = bench.Scaled(1_000_000);
        var template = await bench.PreloadedAsync(jobs);
        Samples peak = new(), half = new();
        for (var round = 0; round < bench.Rounds; round++)
        {
            var answer = await DrainScenario.RoleAsync(bench, template, "drain", jobs / 2, jobs / 2, HistoryPolicy.Keep);
            peak.Add(answer.GetProperty("peakMb").GetDouble());
            half.Add(answer.GetProperty("halfPeakMb").GetDouble());
            Bench.Say($"round {round + 1}: {half.Last:F0} MB after half of the jobs, {peak.Last:F0} MB at the end");
        }

        await bench.DropTemplateAsync($"{jobs} jobs");
        return
        [
            Row.Below("peak memory of a worker that drains 1,000,000 jobs", peak, "MB", 120),
            Row.AtMost("peak memory at the end", peak, "MB", "after half of the jobs", half, 1.1),
        ];
    }
}
