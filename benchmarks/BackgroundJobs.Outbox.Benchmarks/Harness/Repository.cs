namespace BackgroundJobs.Outbox.Benchmarks.Harness;

internal static class Repository
{
    public static string Root { get; } = Find(AppContext.BaseDirectory) ?? Find(Environment.CurrentDirectory)
        ?? throw new InvalidOperationException("Run the benchmarks from within the repository: BackgroundJobs.Outbox.sln was not found above.");

    private static string? Find(string? folder)
    {
        for (; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (File.Exists(Path.Combine(folder, "BackgroundJobs.Outbox.sln")))
                return folder;
        }

        return null;
    }
}
