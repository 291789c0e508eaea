using System.Diagnostics;
using System.Text.Json;

namespace BackgroundJobs.Outbox.Testing;

// A private folder for one cluster, and its lock file in the cache folder, held open as long as the owner lives: an unlocked one is the
// trace of an owner whose watchdog was killed too. The lock file says how to stop that server; only its user can write it.
internal sealed class ClusterFolder : IAsyncDisposable
{
    private readonly FileStream lockStream;
    private readonly Watchdog watchdog;

    private ClusterFolder(string folder, FileStream lockStream, string lockFile, IReadOnlyList<string> pgCtl)
    {
        Folder = folder;
        this.lockStream = lockStream;
        watchdog = Watchdog.Start(folder, lockFile, pgCtl);
    }

    private sealed record Entry(int OwnerId, string Folder, IReadOnlyList<string> PgCtl);

    public string Folder { get; }

    public string Data => Path.Combine(Folder, "data");

    public static ClusterFolder Create(string locks, IReadOnlyList<string> pgCtl)
    {
        MakePrivate(locks);
        var folder = Path.Combine(TemporaryFolder(), $"outbox-pg-{Path.GetRandomFileName()[..8]}");
        var lockFile = Path.Combine(locks, Path.GetFileName(folder) + ".lock");

        // Outside Windows a file is created first and locked then: under its name somebody who looks for stale ones could lock it in between.
        var created = OperatingSystem.IsWindows() ? lockFile : lockFile + ".new";
        var lockStream = new FileStream(created, FileMode.CreateNew, FileAccess.Write, FileShare.None);
        try
        {
            JsonSerializer.Serialize(lockStream, new Entry(Environment.ProcessId, folder, pgCtl));
            lockStream.Flush();
            if (created != lockFile)
                File.Move(created, lockFile);

            // The watchdog first: from its first file on, the folder has somebody to remove it.
            var result = new ClusterFolder(folder, lockStream, lockFile, pgCtl);
            MakePrivate(folder);
            return result;
        }
        catch
        {
            lockStream.Dispose();
            File.Delete(created);
            throw;
        }
    }

    public static async Task RemoveStaleAsync(string locks)
    {
        if (!Directory.Exists(locks))
            return;
        foreach (var file in Directory.EnumerateFiles(locks, "*.lock"))
        {
            if (Stale(file) is { } entry)
                await Watchdog.Start(entry.Folder, file, entry.PgCtl).DisposeAsync().ConfigureAwait(false);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await lockStream.DisposeAsync().ConfigureAwait(false);
        await watchdog.DisposeAsync().ConfigureAwait(false);
    }

    // Both signs are asked for: some network file systems ignore locks, and a process id says nothing about another container's.
    private static Entry? Stale(string file)
    {
        try
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.None);
            var entry = JsonSerializer.Deserialize<Entry>(stream);
            using var owner = Process.GetProcessById(entry!.OwnerId);
            return null;
        }
        catch (ArgumentException)
        {
            // No such process.
            return Read(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    private static Entry? Read(string file)
    {
        try
        {
            return JsonSerializer.Deserialize<Entry>(File.ReadAllText(file));
        }
        catch (IOException)
        {
            // Another process found it at the same time, and was faster.
            return null;
        }
    }

    private static void MakePrivate(string folder)
    {
        if (OperatingSystem.IsWindows())
            Directory.CreateDirectory(folder);
        else
            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    // Root's own temporary folder may be closed to the user who runs the server.
    private static string TemporaryFolder()
    {
        var folder = Path.GetFullPath(Path.GetTempPath());
        if (OperatingSystem.IsWindows() || !Environment.IsPrivilegedProcess)
            return folder;
        for (var parent = new DirectoryInfo(folder); parent is not null; parent = parent.Parent)
        {
            if ((parent.UnixFileMode & UnixFileMode.OtherExecute) == 0)
                return "/tmp";
        }

        return folder;
    }
}
