using System.Diagnostics;
using BackgroundJobs.Outbox.Testing;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests;

// What a server of ours has on the machine: its folder, its lock file, its processes and its watchdog.
public sealed record ServerTraces(string Folder, string LockFolder)
{
    private string LockFile => Path.Combine(LockFolder, Path.GetFileName(Folder) + ".lock");

    public static async Task<ServerTraces> OfAsync(string connectionString, string? lockFolder = null)
    {
        await using var source = NpgsqlDataSource.Create(connectionString);
        await using var command = source.CreateCommand("SHOW data_directory");
        var data = (string)(await command.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
        return new ServerTraces(Path.GetDirectoryName(data)!, lockFolder ?? SearchPlaces.OfThisProcess().LockFolder);
    }

    public bool Gone => !Directory.Exists(Folder) && !File.Exists(LockFile) && Processes().Count == 0;

    public int Postmaster => int.Parse(File.ReadLines(Path.Combine(Folder, "data", "postmaster.pid")).First(), null);

    public void AssertThere()
    {
        Assert.True(Directory.Exists(Folder));
        Assert.True(File.Exists(LockFile));
        // The postmaster, its own helpers, and the watchdog.
        Assert.True(Processes().Count > 2, string.Join(", ", Processes()));
    }

    public void AssertGone()
    {
        Assert.False(Directory.Exists(Folder), Folder);
        Assert.False(File.Exists(LockFile), LockFile);
        Assert.Empty(Processes());
    }

    public IEnumerable<int> Watchdogs() => Processes().Where(process => process.Command.Contains("watchdog", StringComparison.Ordinal)).Select(process => process.Id);

    // Processes that have our folder in their command line or work in it. An ended process that its parent has not noticed is none.
    public IReadOnlyList<(int Id, string Command)> Processes() => OperatingSystem.IsLinux() ? [.. FromProc()] : [.. FromPs()];

    private IEnumerable<(int Id, string Command)> FromProc()
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), out var id) || id == Environment.ProcessId)
                continue;
            string command, state, workingDirectory;
            try
            {
                var stat = File.ReadAllText($"{folder}/stat");
                state = stat[(stat.LastIndexOf(')') + 2)..][..1];
                command = File.ReadAllText($"{folder}/cmdline").Replace('\0', ' ');
                workingDirectory = Directory.ResolveLinkTarget($"{folder}/cwd", returnFinalTarget: false)?.FullName ?? "";
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ended while we looked, or is somebody else's.
                continue;
            }

            if (state != "Z" && (command.Contains(Folder, StringComparison.Ordinal) || workingDirectory.StartsWith(Folder, StringComparison.Ordinal)))
                yield return (id, command);
        }
    }

    private IEnumerable<(int Id, string Command)> FromPs()
    {
        using var ps = Process.Start(new ProcessStartInfo("ps", ["-axo", "pid=,command="]) { RedirectStandardOutput = true })!;
        foreach (var line in ps.StandardOutput.ReadToEnd().Split('\n'))
        {
            if (line.Contains(Folder, StringComparison.Ordinal))
                yield return (int.Parse(line.Trim().Split(' ')[0], null), line);
        }
    }
}
