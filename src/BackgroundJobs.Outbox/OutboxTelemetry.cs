using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace BackgroundJobs.Outbox;

/// <summary>The names under which traces and metrics are published: give them to OpenTelemetry's AddSource and AddMeter.</summary>
public static class OutboxTelemetry
{
    /// <summary>The name of the activity source and of the meter.</summary>
    public const string Name = "BackgroundJobs.Outbox";

    internal static ActivitySource Source { get; } = new(Name, "0.1.0");

    internal static Meter Meter { get; } = new(Name, "0.1.0");

    // A legacy hierarchical id has no place in traceparent, which the SQL checks as W3C text.
    internal static string? CurrentTraceParent() =>
        Activity.Current is { IdFormat: ActivityIdFormat.W3C } activity ? activity.Id : null;
}
