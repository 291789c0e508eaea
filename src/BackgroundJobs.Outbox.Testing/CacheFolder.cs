namespace BackgroundJobs.Outbox.Testing;

// Where the embedded server is kept and running clusters are listed. Nobody else may write there: programs are started from it.
internal static class CacheFolder
{
    private const string Name = "backgroundjobs-outbox";

    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    public const UnixFileMode Readable = OwnerOnly
        | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;

    public static string OfThisUser()
    {
        if (OperatingSystem.IsWindows())
            return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData), Name);
        // Root's server runs as somebody else, who may not enter root's home.
        if (Environment.IsPrivilegedProcess)
            return Made(Path.Combine(OperatingSystem.IsMacOS() ? "/Library/Caches" : "/var/cache", Name), Readable);

        var caches = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        var home = Environment.GetEnvironmentVariable("HOME");
        if (string.IsNullOrEmpty(caches) && !string.IsNullOrEmpty(home) && Directory.Exists(home))
            caches = Path.Combine(home, ".cache");
        try
        {
            if (!string.IsNullOrEmpty(caches))
                return Made(Path.Combine(caches, Name), OwnerOnly);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            // A home that cannot be written to, as service users have: the temporary folder will do.
        }

        return Made(Path.Combine(Path.GetTempPath(), $"{Name}-{Environment.UserName}"), OwnerOnly);
    }

    // Setting the mode fails on a folder of somebody else's, so one that was put there for us is not used.
    private static string Made(string folder, UnixFileMode mode)
    {
        Directory.CreateDirectory(folder);
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(folder, mode);
        return folder;
    }
}
