using System.Diagnostics;
using System.Globalization;

namespace BackgroundJobs.Outbox.PostgresTests;

// Another process that owns a server.
internal sealed class OwnerProcess : IAsyncDisposable
{
    private readonly Process process;

    private OwnerProcess(Process process, string lockFolder, string connectionString)
    {
        this.process = process;
        LockFolder = lockFolder;
        ConnectionString = connectionString;
    }

    public string LockFolder { get; }

    public string ConnectionString { get; }

    public Task<ServerTraces> TracesAsync() => ServerTraces.OfAsync(ConnectionString, LockFolder);

    public int Id => process.Id;

    // In a session of its own, as a terminal gives it: then a signal to its group reaches it and what it started, but not us.
    public static async Task<OwnerProcess> StartAsync(string mode, bool ownGroup = false)
    {
        var lockFolder = Directory.CreateTempSubdirectory("outbox-locks-").FullName;
        string[] command = ["dotnet", Path.Combine(AppContext.BaseDirectory, "BackgroundJobs.Outbox.TestOwner.dll"), mode, lockFolder];
        var start = ownGroup ? new ProcessStartInfo("setsid", command) : new ProcessStartInfo(command[0], command[1..]);
        start.RedirectStandardInput = true;
        start.RedirectStandardOutput = true;
        var process = Process.Start(start)!;
        var line = await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken);
        Assert.NotNull(line);
        return new OwnerProcess(process, lockFolder, line);
    }

    public Task<string?> ReadLineAsync() => process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken).AsTask();

    public void Kill(bool entireTree = false) => process.Kill(entireTree);

    public void CloseInput() => process.StandardInput.Close();

    // To a process, or by the negative number of its leader to a group.
    public static async Task SignalAsync(string signal, int id)
    {
        using var kill = Process.Start(new ProcessStartInfo("sh", ["-c", string.Create(CultureInfo.InvariantCulture, $"kill -s {signal} -- {id}")]))!;
        await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, kill.ExitCode);
    }

    public async Task<int> ExitAsync()
    {
        await process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);
        return process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (!process.HasExited)
            process.Kill();
        await process.WaitForExitAsync(CancellationToken.None);
        process.Dispose();
        Directory.Delete(LockFolder, recursive: true);
    }
}
