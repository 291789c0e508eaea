namespace BackgroundJobs.Outbox.PostgresTests.Support;

// The source tree that this test program was built from.
internal static class Repository
{
    public static string Root { get; } = Find();

    public static string PathOf(params string[] parts) => Path.Combine([Root, .. parts]);

    private static string Find()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "BackgroundJobs.Outbox.sln")))
                return folder.FullName;
        }

        throw new InvalidOperationException($"No BackgroundJobs.Outbox.sln above {AppContext.BaseDirectory}: run the tests from a checkout.");
    }
}
