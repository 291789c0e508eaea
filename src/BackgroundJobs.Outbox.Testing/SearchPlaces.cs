namespace BackgroundJobs.Outbox.Testing;

// All that the search takes from outside, in one value, so that a test can say what a machine has.
internal sealed record SearchPlaces(
    string? Connection, string? Forced, IReadOnlyList<string> Path, IReadOnlyList<BinFolders> BinFolders, string? DockerHost)
{
    private readonly string? ownCacheFolder;
    private readonly string? ownLockFolder;

    // Made when it is first needed: a given server needs none, and may be used where none can be made.
    public string CacheFolder
    {
        get => ownCacheFolder ?? Testing.CacheFolder.OfThisUser();
        init => ownCacheFolder = value;
    }

    // The lock files of the running clusters of this user.
    public string LockFolder
    {
        get => ownLockFolder ?? System.IO.Path.Combine(CacheFolder, "clusters");
        init => ownLockFolder = value;
    }

    public static SearchPlaces OfThisProcess() => new(
        Environment.GetEnvironmentVariable("OUTBOX_CONNECTION"),
        Environment.GetEnvironmentVariable("OUTBOX_POSTGRES"),
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(System.IO.Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries),
        Testing.BinFolders.Known(),
        Environment.GetEnvironmentVariable("DOCKER_HOST"));

    public string? FindProgram(params ReadOnlySpan<string> names)
    {
        foreach (var folder in Path)
        {
            foreach (var name in names)
            {
                var file = System.IO.Path.Combine(folder, name);
                if (File.Exists(file))
                    return file;
            }
        }

        return null;
    }
}
