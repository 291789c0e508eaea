using System.Text.Json;

namespace BackgroundJobs.Outbox.Chaos.Report;

internal static class ReportReader
{
    public static (int Seconds, int Seed, TimeSpan Lease) Read(string file)
    {
        using var report = JsonDocument.Parse(File.ReadAllBytes(file));
        var root = report.RootElement;
        return (root.GetProperty("seconds").GetInt32(), root.GetProperty("seed").GetInt32(), TimeSpan.FromSeconds(root.GetProperty("leaseSeconds").GetDouble()));
    }
}
