using System.Diagnostics;
using BackgroundJobs.Outbox.Chaos.Server;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// One actor, seen from the run: a process that is started again whenever it has ended, behind a proxy of its own.
internal sealed class ActorSlot : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string role;
    private readonly Func<int, ActorSettings> settings;
    private readonly Action<ProcessStartInfo> prepare;
    private readonly CancellationTokenSource ending = new();
    private readonly List<int> processIds = [];
    private Process process;
    private readonly Task keeping;

    public ActorSlot(string role, string name, FaultProxy proxy, Func<int, ActorSettings> settings, Action<ProcessStartInfo>? prepare = null)
    {
        this.role = role;
        this.settings = settings;
        this.prepare = prepare ?? (_ => { });
        Name = name;
        Proxy = proxy;
        process = Start();
        keeping = KeepAsync();
    }

    public string Name { get; }

    public FaultProxy Proxy { get; }

    public string LogFile => settings(0).LogFile;

    public Process Process => Volatile.Read(ref process);

    public int ExitCode { get; private set; }

    // Of all its incarnations.
    public IReadOnlyList<int> ProcessIds
    {
        get
        {
            lock (processIds)
                return [.. processIds];
        }
    }

    // SIGTERM, and its patient wait; false when it had to be killed.
    public async Task<bool> StopAsync()
    {
        await ending.CancelAsync();
        await keeping;
        var last = Process;
        last.Send(Signals.Terminate);
        try
        {
            await last.WaitForExitAsync().WaitAsync(Patience, TimeProvider.System);
            ExitCode = last.ExitCode;
            return true;
        }
        catch (TimeoutException)
        {
            last.Kill();
            return false;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await ending.CancelAsync();
        await keeping;
        if (!process.HasExited)
            process.Kill();
        await process.WaitForExitAsync();
        process.Dispose();
        ending.Dispose();
        await Proxy.DisposeAsync();
    }

    private Process Start()
    {
        // As `dotnet X.dll` our own program is dotnet; else it is the program itself.
        var self = Environment.ProcessPath ?? "dotnet";
        var start = new ProcessStartInfo(self)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (Path.GetFileNameWithoutExtension(self).Equals("dotnet", StringComparison.OrdinalIgnoreCase))
            start.ArgumentList.Add(typeof(ActorSlot).Assembly.Location);
        start.ArgumentList.Add(role);
        var told = settings(ProcessIds.Count);
        told.Put(start.Environment);
        prepare(start);
        var started = new Process { StartInfo = start };
        started.OutputDataReceived += (_, line) => Keep(told, line.Data);
        started.ErrorDataReceived += (_, line) => Keep(told, line.Data);
        started.Start();
        started.BeginOutputReadLine();
        started.BeginErrorReadLine();
        lock (processIds)
            processIds.Add(started.Id);
        return started;
    }

    // What it says outside of its log is what nobody foresaw: kept beside it.
    private static void Keep(ActorSettings told, string? line)
    {
        if (line is not null)
            File.AppendAllText(told.LogFile + ".output", line + Environment.NewLine);
    }

    private async Task KeepAsync()
    {
        while (true)
        {
            await Process.WaitForExitAsync(ending.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (ending.IsCancellationRequested)
                return;
            // The old one is not disposed: a fault may still be looking at it.
            Volatile.Write(ref process, Start());
        }
    }
}
