namespace BackgroundJobs.Outbox.Benchmarks.Harness;

internal interface IScenario
{
    // As on the command line.
    string Name { get; }

    Task<IReadOnlyList<Row>> RunAsync(Bench bench);
}
