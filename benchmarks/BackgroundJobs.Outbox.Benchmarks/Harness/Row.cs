using System.Text.Json.Serialization;

namespace BackgroundJobs.Outbox.Benchmarks.Harness;

// One line of the result: what was measured, against what, and whether it meets its bar. The values are medians; Ratio is the median of the
// ratios of the rounds, in each of which both were measured.
internal sealed record Row(string Scenario, double Value, string Unit)
{
    [JsonIgnore]
    public double Min { get; init; }

    [JsonIgnore]
    public double Max { get; init; }

    public string? Against { get; init; }

    public double? AgainstValue { get; init; }

    public double? Ratio { get; init; }

    // Such as "≥ 1.8 ×"; null: only shown.
    public string? Bar { get; init; }

    public bool? Met { get; init; }

    // Misses its bar threefold: no noise does that.
    [JsonIgnore]
    public bool IsGross { get; init; }

    // More is better: value / against must be at least this.
    public static Row AtLeast(string scenario, Samples value, string unit, string against, Samples other, double bar) =>
        Compared(scenario, value, unit, against, other, $"≥ {bar:0.##} ×", ratio => ratio / bar);

    // Less is better.
    public static Row AtMost(string scenario, Samples value, string unit, string against, Samples other, double bar) =>
        Compared(scenario, value, unit, against, other, $"≤ {bar:0.##} ×", ratio => bar / ratio);

    public static Row Below(string scenario, Samples value, string unit, double bar) =>
        new(scenario, value.Median, unit) { Min = value.Min, Max = value.Max, Bar = $"≤ {bar:0.##} {unit}", Met = value.Median <= bar };

    public static Row Shown(string scenario, Samples value, string unit, string? against = null, Samples? other = null) =>
        new(scenario, value.Median, unit)
        {
            Min = value.Min,
            Max = value.Max,
            Against = against,
            AgainstValue = other?.Median,
            Ratio = other is null ? null : value.RatioTo(other),
        };

    private static Row Compared(string scenario, Samples value, string unit, string against, Samples other, string bar, Func<double, double> share) =>
        Shown(scenario, value, unit, against, other) with { Bar = bar, Met = share(value.RatioTo(other)) >= 1, IsGross = share(value.RatioTo(other)) < 1.0 / 3 };
}
