namespace BackgroundJobs.Outbox.Benchmarks.Harness;

internal interface IScenario
{
    // As on the command line.
    string Name { get; }

    // As in the report.
    string Title { get; }

    Task<IReadOnlyList<Row>> RunAsync(Bench bench);
}
