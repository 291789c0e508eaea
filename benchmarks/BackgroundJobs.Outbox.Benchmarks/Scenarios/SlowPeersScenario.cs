using BackgroundJobs.Outbox.Benchmarks.Harness;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// The .NET peers, on as many jobs as they can do in some seconds.
internal sealed class SlowPeersScenario : IScenario
{
    public string Name => "dotnet-peers";

    public string Title => "Drain: the .NET peers";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        var jobs = bench.Scaled(200_000);
        var (few, fewer) = (bench.Scaled(1500), bench.Scaled(300));
        var ours = await bench.PreloadedAsync(2 * jobs);
        var hangfire = await bench.TemplateAsync("hangfire", connection => RoleAsync(connection, "hangfire-preload", few + fewer));
        var quartz = await bench.TemplateAsync("quartz", connection => RoleAsync(connection, "quartz-preload", few + fewer));
        Samples rate = new(), hangfireRate = new(), quartzRate = new();
        for (var round = 0; round < bench.Rounds; round++)
        {
            rate.Add(jobs / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, ours, "drain", jobs, jobs, HistoryPolicy.Keep)));
            hangfireRate.Add(few / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, hangfire, "hangfire-drain", fewer, few)));
            quartzRate.Add(few / DrainScenario.Seconds(await DrainScenario.RoleAsync(bench, quartz, "quartz-drain", fewer, few)));
            Bench.Say($"round {round + 1}: {rate.Last:N0}, Hangfire {hangfireRate.Last:N0}, Quartz {quartzRate.Last:N0} jobs/s");
        }

        return
        [
            Row.AtLeast("drain, history kept, against Hangfire", rate, "jobs/s", "Hangfire, 20 workers, long polling, its last hundredth not waited for", hangfireRate, 100),
            Row.Shown("drain, history kept, against Quartz", rate, "jobs/s", "Quartz, ADO store, 20 threads, batches of 20", quartzRate),
        ];
    }

    private static async Task RoleAsync(string connection, string role, params object[] arguments)
    {
        using var child = Child.Role(role, connection, arguments);
        await child.AnswerAsync(TimeSpan.FromMinutes(5));
        await child.ExitAsync();
    }
}
