using System.Globalization;
using System.Text.RegularExpressions;

namespace BackgroundJobs.Outbox.Testing;

// Where packages put PostgreSQL: one folder per version in a parent folder, the programs in its bin.
internal sealed partial record BinFolders(string Parent, string Pattern)
{
    public static IReadOnlyList<BinFolders> Known()
    {
        if (OperatingSystem.IsWindows())
            return [new(Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles), "PostgreSQL"), "*")];
        if (OperatingSystem.IsMacOS())
        {
            return
            [
                new("/opt/homebrew/opt", "postgresql*"), new("/usr/local/opt", "postgresql*"),
                new("/Applications/Postgres.app/Contents/Versions", "*"), new("/Library/PostgreSQL", "*"),
            ];
        }

        return [new("/usr/lib/postgresql", "*"), new("/usr", "pgsql-*")];
    }

    public IEnumerable<string> NewestFirst()
    {
        if (!Directory.Exists(Parent))
            return [];
        return Directory.EnumerateDirectories(Parent, Pattern)
            .OrderByDescending(folder => VersionIn(Path.GetFileName(folder)))
            .Select(folder => Path.Combine(folder, "bin"));
    }

    private static double VersionIn(string name) =>
        double.TryParse(Number().Match(name).Value, NumberStyles.Float, CultureInfo.InvariantCulture, out var version) ? version : 0;

    [GeneratedRegex(@"\d+(\.\d+)?")]
    private static partial Regex Number();
}
