using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.Benchmarks.Roles;

// What runs in the process for each job, without a database: measured by BenchmarkDotNet, allocations counted.
public class HotPaths
{
    private readonly Noop job = new(7);
    private readonly OutboxOptions options = new();
    private ClaimedJob claimed = null!;
    private JobRegistration registration = null!;
    private IServiceProvider services = null!;
    private DbContextOptions<BenchDb> context = null!;

    public static object Run()
    {
        var config = ManualConfig.CreateEmpty()
            .AddJob(Job.ShortRun.WithToolchain(new InProcessEmitToolchain(TimeSpan.FromMinutes(2), logOutput: false)))
            .AddDiagnoser(MemoryDiagnoser.Default)
            .AddColumnProvider(DefaultColumnProviders.Instance)
            .AddLogger(NullLogger.Instance)
            .WithOptions(ConfigOptions.DisableLogFile)
            .WithArtifactsPath(Path.Combine(Path.GetTempPath(), $"hot-paths-{Environment.ProcessId}"));
        var summary = BenchmarkRunner.Run<HotPaths>(config);
        if (summary.HasCriticalValidationErrors || summary.Reports.Any(report => !report.Success))
            throw new InvalidOperationException(string.Join('\n', summary.ValidationErrors.Select(error => error.Message)));
        Directory.Delete(summary.ResultsDirectoryPath, recursive: true);
        return summary.Reports.Select(report => new
        {
            name = report.BenchmarkCase.Descriptor.WorkloadMethodDisplayInfo.Trim('\''),
            nanoseconds = report.ResultStatistics!.Median,
            bytes = report.GcStats.GetBytesAllocatedPerOperation(report.BenchmarkCase) ?? 0,
        }).ToDictionary(each => each.name, each => new[] { each.nanoseconds, each.bytes });
    }

    [GlobalSetup]
    public void Prepare()
    {
        services = new ServiceCollection().AddOutbox(outbox => outbox.Handle<Noop>((_, _, _) => Task.CompletedTask)).BuildServiceProvider();
        var registry = services.GetRequiredService<OutboxOptions>().Registry!;
        registration = registry.TryFind(Noop.Kind, out var found) ? found : throw new InvalidOperationException("No handler.");
        claimed = new()
        {
            Id = Guid.CreateVersion7(),
            Kind = Noop.Kind,
            Args = """{"id": 7}"""u8.ToArray(),
            Queue = "default",
            Priority = 2,
            RunAt = DateTime.UnixEpoch,
            CreatedAt = DateTime.UnixEpoch,
            MaxAttempts = 20,
            Failures = 0,
            Crashes = 0,
            Attempt = 1,
            LeaseToken = Guid.NewGuid(),
            WorkerId = Guid.NewGuid(),
            ClaimedAt = DateTime.UnixEpoch,
        };
        context = new DbContextOptionsBuilder<BenchDb>().UseNpgsql("Host=nowhere").UseOutbox().Options;
    }

    [Benchmark(Description = "arguments to JSON")]
    public string Write() => NewJob.ArgsOf(job, Guid.Empty, options);

    [Benchmark(Description = "JSON to arguments")]
    public object Read() => registration.ReadArgs(claimed, options);

    [Benchmark(Description = "a job made for Npgsql or bulk")]
    public NewJob Create() => NewJob.Create(job, null, options);

    [Benchmark(Description = "a context made and a job enqueued in it")]
    public Guid Enqueue()
    {
        using var db = new BenchDb(context);
        return db.Enqueue(job);
    }

    [Benchmark(Description = "a context made and a row of the same size added to it")]
    public Guid Add()
    {
        using var db = new BenchDb(context);
        return db.Add(new BenchDb.PlainJob()).Entity.Id;
    }

    [Benchmark(Description = "a claimed job handed to its handler")]
    public Task Dispatch() =>
        registration.RunAsync(registration.ReadArgs(claimed, options), new JobContext(claimed, services, options, CancellationToken.None), CancellationToken.None);
}
