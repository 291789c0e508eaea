namespace BackgroundJobs.Outbox.Testing;

// PostgreSQL's programs on this machine.
internal static class InstalledPostgres
{
    private static readonly string[] needed = ["initdb", "pg_ctl", "postgres"];

    public static async Task<RunningPostgres> StartAsync(PostgresServerOptions options, SearchPlaces places, CancellationToken cancellationToken)
    {
        var bin = FindBin(places)
            ?? throw new PostgresServerException(
                $"no folder with {string.Join(", ", needed)} on PATH or under {string.Join(", ", places.BinFolders.Select(folders => folders.Parent))}");
        var cluster = await PostgresCluster.StartAsync(bin, options, places, cancellationToken).ConfigureAwait(false);
        return new RunningPostgres(PostgresWay.Installed, $"installed in {bin}", cluster.ConnectionString, cluster);
    }

    public static string? FindBin(SearchPlaces places) =>
        places.Path.Concat(places.BinFolders.SelectMany(folders => folders.NewestFirst()))
            .Where(folder => needed.All(name => File.Exists(Program(folder, name))))
            .Select(Resolved)
            .FirstOrDefault();

    // PATH often has links only; where they lead says which version it is.
    private static string Resolved(string bin) =>
        Path.GetDirectoryName(File.ResolveLinkTarget(Program(bin, "postgres"), returnFinalTarget: true)?.FullName) is { } target
        && needed.All(name => File.Exists(Program(target, name))) ? target : bin;

    public static string Program(string bin, string name) => Path.Combine(bin, OperatingSystem.IsWindows() ? name + ".exe" : name);
}
