using BackgroundJobs.Outbox.Testing;

namespace BackgroundJobs.Outbox.Chaos.Server;

// A small disk under the tables of the run, so that it can be filled without the machine's. Where we may mount none, there is none.
internal sealed class SmallDisk : IAsyncDisposable
{
    private const long Size = 512L << 20;
    private readonly string folder;

    private SmallDisk(string folder) => this.folder = folder;

    private string Filler => Path.Combine(folder, "filler");

    public static async Task<SmallDisk?> TryMountAsync(ChaosServer server, CancellationToken cancellationToken)
    {
        if (!OperatingSystem.IsLinux() || !Environment.IsPrivilegedProcess)
            return null;
        var folder = Directory.CreateTempSubdirectory("outbox-disk-").FullName;
        var mount = await ProgramRun.ToEndAsync(["mount", "-t", "tmpfs", "-o", $"size={Size}", "tmpfs", folder], cancellationToken);
        if (mount.ExitCode != 0)
        {
            Directory.Delete(folder);
            return null;
        }

        var space = Directory.CreateDirectory(Path.Combine(folder, "tables")).FullName;
        await server.GiveAsync(folder, cancellationToken);
        await server.ExecuteAsync($"CREATE TABLESPACE small LOCATION '{space}'", cancellationToken);
        foreach (var table in new[] { "outbox.jobs", "entities", "effects" })
            await server.ExecuteAsync($"ALTER TABLE {table} SET TABLESPACE small", cancellationToken);
        await server.ExecuteAsync("CREATE TABLE probe (filler text) TABLESPACE small; ALTER TABLE probe ALTER COLUMN filler SET STORAGE EXTERNAL", cancellationToken);
        return new(folder);
    }

    // To the last byte.
    public async Task FillAsync()
    {
        await using var file = new FileStream(Filler, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        var block = new byte[1 << 16];
        try
        {
            while (true)
                file.Write(block);
        }
        catch (IOException)
        {
            // Full.
        }
    }

    public void Clear() => File.Delete(Filler);

    public async ValueTask DisposeAsync()
    {
        await ProgramRun.ToEndAsync(["umount", "-l", folder], CancellationToken.None);
        Directory.Delete(folder, recursive: true);
    }
}
