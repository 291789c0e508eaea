using System.Diagnostics;
using System.Text;
using BackgroundJobs.Outbox.Chaos.Server;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// A worker as a process of its own: to be killed, frozen, and asked to stop.
internal sealed class WorkerProcess : IAsyncDisposable
{
    private readonly Process process;
    private readonly StringBuilder output = new();

    private WorkerProcess(Process process)
    {
        this.process = process;
        process.OutputDataReceived += (_, line) =>
        {
            lock (output)
                output.AppendLine(line.Data);
        };
        process.BeginOutputReadLine();
    }

    public int Id => process.Id;

    public int ExitCode => process.ExitCode;

    public bool HasExited => process.HasExited;

    public string Output
    {
        get
        {
            lock (output)
                return output.ToString();
        }
    }

    // The tables that the worker's handlers write into.
    public static Task PrepareAsync(ScratchDatabase database) => database.ExecuteAsync("""
        CREATE TABLE runs (id bigserial PRIMARY KEY, what text, job_id uuid, attempt integer, number integer, process_id integer, at timestamptz DEFAULT clock_timestamp());
        CREATE TABLE effects (number integer, attempt integer);
        """);

    public static async Task<WorkerProcess> StartAsync(ScratchDatabase database, int concurrency = 5, double shutdown = 25, double lease = 6, int? memory = null, string? clockFile = null)
    {
        var assembly = Path.Combine(AppContext.BaseDirectory, "BackgroundJobs.Outbox.TestWorker.dll");
        var start = new ProcessStartInfo("dotnet", [assembly, $"{concurrency}", $"{shutdown * 1000}", $"{lease * 1000}"]) { RedirectStandardOutput = true };
        start.Environment["OUTBOX_TEST_CONNECTION"] = database.ConnectionString;
        if (memory is { } mebibytes)
            start.Environment["DOTNET_GCHeapHardLimit"] = $"0x{mebibytes * 1048576L:x}";
        if (clockFile is not null)
            ShiftedClock.Use(start, clockFile);
        var worker = new WorkerProcess(Process.Start(start)!);
        await Eventually.TrueAsync(
            async () => worker.HasExited || await database.ScalarAsync<long>($"SELECT count(*) FROM outbox.workers WHERE process_id = {worker.Id}") == 1,
            "the worker process registers");
        return worker;
    }

    public void Kill() => process.Kill();

    public void Signal(int signal) => Assert.True(process.Send(signal));

    public Task ExitAsync(double seconds = 30) => process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(seconds), TimeProvider.System);

    public async ValueTask DisposeAsync()
    {
        if (!process.HasExited)
            process.Kill();
        await process.WaitForExitAsync(CancellationToken.None);
        process.Dispose();
    }
}
