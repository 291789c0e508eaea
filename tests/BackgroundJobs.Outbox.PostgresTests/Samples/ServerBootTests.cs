using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Samples;

// The sample as a user runs it: a process of its own, with worker processes of its own.
public sealed partial class ServerBootTests : IDisposable
{
    private readonly DirectoryInfo folder = Directory.CreateTempSubdirectory("serverboot");

    // Where the build put the sample, by the project file: the same configuration as this test.
    private static readonly SampleProcess Sample = new("ServerBootProgram", TimeSpan.FromMinutes(3));

    public void Dispose() => folder.Delete(recursive: true);

    [Fact]
    public async Task The_sample_keeps_every_promise_over_a_killed_worker_and_leaves_nothing_behind()
    {
        var server = await TestServer.GetAsync();
        var json = Path.Combine(folder.FullName, "report.json");

        var (exitCode, output) = await Sample.RunAsync("--servers", "60", "--seed", "3", "--connection", server.ConnectionString, "--json", json);

        Assert.True(exitCode == 0, output);
        using var report = JsonDocument.Parse(await File.ReadAllTextAsync(json));
        var root = report.RootElement;
        Assert.Equal(
            ["committed", "rolledBack", "booted", "recordNotFound", "bootedTwice", "ghostBoots", "recoverySeconds", "p50Ms", "p99Ms"],
            root.EnumerateObject().Select(each => each.Name));
        Assert.Equal(60, Number("committed") + Number("rolledBack"));
        Assert.InRange(Number("rolledBack"), 1, 30);
        Assert.Equal(Number("committed"), Number("booted"));
        Assert.Equal(0, Number("recordNotFound"));
        Assert.Equal(0, Number("bootedTwice"));
        Assert.Equal(0, Number("ghostBoots"));
        Assert.True(Number("p50Ms") <= Number("p99Ms"), output);
        Assert.Contains("was killed with SIGKILL", output, StringComparison.Ordinal);
        Assert.Contains("was asked to stop and stopped", output, StringComparison.Ordinal);
        AssertNoWorkerIsLeft(output);

        double Number(string name) => root.GetProperty(name).GetDouble();
    }

    [Fact]
    public async Task A_malformed_row_is_named_by_its_line_and_the_rest_is_booted()
    {
        var server = await TestServer.GetAsync();
        var file = Path.Combine(folder.FullName, "other.csv");
        await File.WriteAllLinesAsync(
            file,
            ["name,region,size", "web-01,eu,small", "web-02,eu", ",eu,small", "web-03,eu,huge", "", "web-04,\"eu,small", "web-05,eu,large", "web-05,eu,small", "\"web-06\",eu,xlarge"]);
        var json = Path.Combine(folder.FullName, "report.json");

        var (exitCode, output) = await Sample.RunAsync("--file", file, "--connection", server.ConnectionString, "--json", json);

        Assert.True(exitCode == 0, output);
        foreach (var line in new[] { 3, 4, 5, 7, 9 })
            Assert.Contains($"other.csv, line {line}: ", output, StringComparison.Ordinal);
        Assert.Equal(5, output.Split("other.csv, line ").Length - 1);
        using var report = JsonDocument.Parse(await File.ReadAllTextAsync(json));
        Assert.Equal(3, report.RootElement.GetProperty("committed").GetInt32() + report.RootElement.GetProperty("rolledBack").GetInt32());
        AssertNoWorkerIsLeft(output);
    }

    [Fact]
    public async Task A_wrong_server_ends_it_with_a_message_and_not_with_a_stack()
    {
        var (exitCode, output) = await Sample.RunAsync("--connection", "Host=127.0.0.1;Port=1;Username=nobody;Timeout=2");

        Assert.Equal(2, exitCode);
        Assert.Contains("does not answer", output, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", output, StringComparison.Ordinal);
    }

    // The sample names each worker with its process id.
    private static void AssertNoWorkerIsLeft(string output)
    {
        var pids = Pids().Matches(output).Select(each => int.Parse(each.Groups["pid"].Value, CultureInfo.InvariantCulture)).Distinct().ToList();
        Assert.Equal(4, pids.Count);
        Assert.DoesNotContain(pids, Runs);
    }

    private static bool Runs(int pid)
    {
        try
        {
            using var process = Process.GetProcessById(pid);
            return !process.HasExited;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    [GeneratedRegex(@"\b[ABCD] (is |\()(?<pid>\d+)")]
    private static partial Regex Pids();
}
