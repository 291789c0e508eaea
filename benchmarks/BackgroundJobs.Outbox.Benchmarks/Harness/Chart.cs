namespace BackgroundJobs.Outbox.Benchmarks.Harness;

// For the report: lines over time where Step (seconds between the points) is given, otherwise one bar for each value.
internal sealed record Chart(string Name, string Title, string Unit, IReadOnlyList<(string Label, double[] Values)> Series, double? Step = null);
