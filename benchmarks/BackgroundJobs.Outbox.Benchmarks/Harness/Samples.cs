namespace BackgroundJobs.Outbox.Benchmarks.Harness;

// One figure per round.
internal sealed class Samples
{
    private readonly List<double> values = [];

    public Samples(params IEnumerable<double> values) => this.values.AddRange(values);

    public bool Any => values.Count > 0;

    public double Median => Percentile(0.5);

    public double Min => values.Min();

    public double Max => values.Max();

    public double Last => values.Count == 0 ? 0 : values[^1];

    public void Add(double value) => values.Add(value);

    public double Percentile(double share)
    {
        List<double> sorted = [.. values.Order()];
        var at = share * (sorted.Count - 1);
        var below = (int)at;
        return below + 1 < sorted.Count ? sorted[below] + ((at - below) * (sorted[below + 1] - sorted[below])) : sorted[below];
    }

    // Of the ratios within the rounds, the median: what a noisy machine does to one round, it does to both.
    public double RatioTo(Samples other) => values.Count == other.values.Count
        ? new Samples(values.Zip(other.values, (mine, theirs) => mine / theirs)).Median
        : Median / other.Median;
}
