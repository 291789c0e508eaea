using System.Diagnostics;
using System.Text.Json;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.Faults;

namespace BackgroundJobs.Outbox.PostgresTests.Chaos;

// A minute of the chaos program, as a process of its own. Long runs: docs/testing.md.
public sealed class ChaosSmokeTests(ITestOutputHelper output) : IDisposable
{
    private const int Seconds = 60;
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(6);

    private readonly string report = Path.GetTempFileName();

    public void Dispose() => File.Delete(report);

    [Fact]
    public async Task A_minute_of_faults_breaks_no_promise()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "The faults are signals and sessions of a server that is started and stopped in place: Linux or macOS.");
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("OUTBOX_CONNECTION") is null or "", "The program stops its server under everybody: it takes none that was given (OUTBOX_CONNECTION).");
        var start = new ProcessStartInfo("dotnet", [typeof(Fault).Assembly.Location, "--seconds", $"{Seconds}", "--seed", "1", "--lease", "2", "--json", report])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var program = Process.Start(start)!;
        var (said, complained) = (program.StandardOutput.ReadToEndAsync(), program.StandardError.ReadToEndAsync());
        try
        {
            await program.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(Limit, TimeProvider.System);
        }
        finally
        {
            if (!program.HasExited)
                program.Kill(entireProcessTree: true);
            output.WriteLine(await said + await complained);
        }

        using var json = JsonDocument.Parse(await File.ReadAllBytesAsync(report, TestContext.Current.CancellationToken));
        var root = json.RootElement;
        Assert.Equal("{}", root.GetProperty("broken").GetRawText().Replace(" ", "", StringComparison.Ordinal));
        foreach (var name in new[] { "lost", "ghosts", "duplicatedEffects", "fencedAccepted" })
            Assert.Equal(0, root.GetProperty(name).GetInt32());

        // A minute is too short to be sure that each fault comes to something, and long enough for most.
        var faults = root.GetProperty("faults").EnumerateArray().Where(fault => fault.GetProperty("effect").ValueKind == JsonValueKind.String).ToList();
        Assert.InRange(faults.Select(fault => fault.GetProperty("name").GetString()).Distinct().Count(), 15, int.MaxValue);
        Assert.True(root.GetProperty("jobs").GetInt32() > 500);
        Assert.InRange(root.GetProperty("ticks").GetInt32(), Seconds / 2, int.MaxValue);
        Assert.InRange(root.GetProperty("mostOfGroup").GetInt32(), 1, GroupQueues.GroupConcurrency);
        Assert.True(root.GetProperty("ordered").GetInt32() > 0);
        Assert.True(root.GetProperty("met").GetInt32() > 0);
        Assert.True(root.GetProperty("rescues").GetInt32() > 0);
        Assert.True(root.GetProperty("fencedRejected").GetInt32() > 0);
    }
}
