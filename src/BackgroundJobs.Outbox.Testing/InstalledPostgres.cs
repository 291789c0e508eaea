using System.Text.RegularExpressions;

namespace BackgroundJobs.Outbox.Testing;

// PostgreSQL's own programs, where its packages put them.
internal static partial class InstalledPostgres
{
    public static Task<PostgresServer> StartAsync(PostgresServerOptions options, CancellationToken cancellationToken)
    {
        var folder = Find() ?? throw new PostgresServerException("no initdb and postgres in PATH or where PostgreSQL's packages put them.");
        return PostgresCluster.StartAsync(folder, $"installed in {folder}", options, cancellationToken);
    }

    public static string? Find()
    {
        var path = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries);
        return path.Concat(Packages()).FirstOrDefault(HasPrograms);
    }

    private static bool HasPrograms(string folder) => File.Exists(Program(folder, "initdb")) && File.Exists(Program(folder, "postgres"));

    public static string Program(string folder, string name) => Path.Combine(folder, OperatingSystem.IsWindows() ? name + ".exe" : name);

    // Newest first: /usr/lib/postgresql/15/bin (Debian), postgresql@17 (Homebrew), Program Files\PostgreSQL\17\bin.
    private static IEnumerable<string> Packages()
    {
        (string Root, string Pattern)[] places = OperatingSystem.IsWindows()
            ? [(Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles), "PostgreSQL"), "*")]
            : [("/usr/lib/postgresql", "*"), ("/usr", "pgsql-*"), ("/opt/homebrew/opt", "postgresql*"), ("/usr/local/opt", "postgresql*")];
        return places
            .Where(place => Directory.Exists(place.Root))
            .SelectMany(place => Directory.GetDirectories(place.Root, place.Pattern))
            .OrderByDescending(folder => int.TryParse(Number().Match(folder).Value, out var version) ? version : 0)
            .Select(folder => Path.Combine(folder, "bin"));
    }

    [GeneratedRegex(@"[0-9]+\z")]
    private static partial Regex Number();
}
