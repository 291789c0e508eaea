using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace ServerBoot;

// One worker, seen from the sample that started it.
internal sealed partial class WorkerProcess : IDisposable
{
    private const int Sigterm = 15;
    private const int KeptLines = 10;

    private readonly Process process;
    private readonly ConcurrentQueue<string> said = new();

    private WorkerProcess(string name, ProcessStartInfo start)
    {
        Name = name;
        process = new Process { StartInfo = start };
        process.OutputDataReceived += (_, line) => Keep(line.Data);
        process.ErrorDataReceived += (_, line) => Keep(line.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        Pid = process.Id;
    }

    public string Name { get; }

    public int Pid { get; }

    public string State { get; private set; } = "runs";

    public bool HasExited => process.HasExited;

    // The last lines it wrote: warnings and errors only.
    public string Said => string.Join(Environment.NewLine, said);

    public static WorkerProcess Start(string name, WorkerSettings settings)
    {
        // As `dotnet ServerBoot.dll` our own program is dotnet; else it is ServerBoot itself.
        var self = Environment.ProcessPath ?? "dotnet";
        var start = new ProcessStartInfo(self)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        if (Path.GetFileNameWithoutExtension(self).Equals("dotnet", StringComparison.OrdinalIgnoreCase))
            start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "ServerBoot.dll"));
        start.ArgumentList.Add("worker");
        start.Environment[WorkerSettings.ConnectionVariable] = settings.ConnectionString;
        start.Environment[WorkerSettings.SeedVariable] = settings.Seed.ToString(CultureInfo.InvariantCulture);
        return new WorkerProcess(name, start);
    }

    // SIGKILL, TerminateProcess on Windows: no handler of the process sees it.
    public async Task KillAsync()
    {
        process.Kill();
        await process.WaitForExitAsync();
        State = "killed";
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        State = "stops";
        if (!process.HasExited)
        {
            if (OperatingSystem.IsWindows() || Signal(Pid, Sigterm) != 0)
                process.StandardInput.Close();
            await process.WaitForExitAsync(cancellationToken);
        }

        State = process.ExitCode == 0 ? "stopped" : $"ended with {process.ExitCode}";
    }

    public void Dispose()
    {
        // Only what is left after an error or Ctrl-C.
        if (!process.HasExited)
        {
            process.Kill();
            process.WaitForExit();
        }

        process.Dispose();
    }

    private void Keep(string? line)
    {
        if (line is null)
            return;
        said.Enqueue(line);
        while (said.Count > KeptLines)
            said.TryDequeue(out _);
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int pid, int signal);
}
