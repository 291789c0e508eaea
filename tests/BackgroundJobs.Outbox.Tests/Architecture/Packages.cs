using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.Tests.Architecture;

// What stands under src/.
public static class Packages
{
    public static TheoryData<string> Names =>
        [.. Directory.GetDirectories(Repository.PathOf("src")).Where(folder => Directory.GetFiles(folder, "*.csproj").Length > 0).Select(folder => Path.GetFileName(folder)!).Order()];

    internal static IEnumerable<string> Sources(string package) => Directory
        .GetFiles(Repository.PathOf("src", package), "*.cs", SearchOption.AllDirectories)
        .Where(path => !path[Repository.Root.Length..].Split('/', '\\').Any(part => part is "obj" or "bin"));
}
