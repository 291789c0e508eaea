using System.Data;
using System.Diagnostics;
using System.Text.Json;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Testing;
using Dapper;
using Npgsql;
using Spectre.Console;

namespace BackgroundJobs.Outbox.Benchmarks.Harness;

// What every scenario works with: a durable server of its own, databases copied from templates, and how often and how long to measure.
internal sealed class Bench : IAsyncDisposable
{
    private readonly Dictionary<string, string> templates = [];
    private readonly Dictionary<string, string?> nodePeers = [];
    private readonly PostgresServer server;

    private Bench(PostgresServer server, int rounds, double scale, bool peers)
    {
        HasPeers = peers;
        this.server = server;
        Rounds = rounds;
        Scale = scale;
    }

    // The settings that are not PostgreSQL's defaults. Durability is the default: fsync, full_page_writes and synchronous_commit are on.
    public static IReadOnlyDictionary<string, string> Settings { get; } = new Dictionary<string, string>
    {
        ["shared_buffers"] = "1GB",
        ["max_wal_size"] = "8GB",
        ["checkpoint_timeout"] = "30min",
    };

    public PostgresServer Server => server;

    public List<Chart> Charts { get; } = [];

    public int Rounds { get; }

    // 1: the sizes that the bar names.
    public double Scale { get; }

    // False in the short form.
    public bool HasPeers { get; }

    public static async Task<Bench> StartAsync(int rounds, double scale, bool peers = true)
    {
        PostgresServerOptions options = new() { Durable = true };
        foreach (var (name, value) in Settings)
            options.Settings[name] = value;
        return new Bench(await PostgresServer.StartAsync(options), rounds, scale, peers);
    }

    public static void Say(string text) => AnsiConsole.MarkupLineInterpolated($"[grey]{Stopwatch.GetTimestamp() / Stopwatch.Frequency % 100000}[/] {text}");

    public int Scaled(int count) => Math.Max(1, (int)(count * Scale));

    public TimeSpan Scaled(TimeSpan time) => time * Scale;

    // A database as fill leaves it, vacuumed; made once, whatever the number of copies.
    public async Task<string> TemplateAsync(string name, Func<string, Task> fill)
    {
        if (templates.TryGetValue(name, out var known))
            return known;
        Say($"making template {name}");
        var made = await server.CreateDatabaseAsync();
        await fill(made);
        await ExecuteAsync(made, "VACUUM (ANALYZE)");
        NpgsqlConnection.ClearAllPools();
        return templates[name] = made;
    }

    public async Task DropTemplateAsync(string name)
    {
        if (templates.Remove(name, out var template))
            await server.DropDatabaseAsync(template);
    }

    // A copy, on a server that has just written everything down.
    public async Task<Scratch> CopyAsync(string template)
    {
        var copy = await server.CreateDatabaseAsync(template);
        await ExecuteAsync(copy, "CHECKPOINT");
        return new Scratch(server, copy);
    }

    public Task<string> MigratedAsync() => TemplateAsync("migrated", async connection => await Migrator.MigrateAsync(connection));

    // Jobs of the kind "noop", due since a moment.
    public Task<string> PreloadedAsync(int jobs) => TemplateAsync($"{jobs} jobs", async connection =>
    {
        await Migrator.MigrateAsync(connection);
        await PreloadAsync(connection, jobs);
    });

    public static Task PreloadAsync(string connection, int jobs, string runAt = "now() - interval '1 minute' + n * interval '1 microsecond'", string kind = "noop") => ExecuteAsync(
        connection,
        $$"""
        INSERT INTO outbox.jobs (id, kind, args, queue, priority, run_at, max_attempts)
        SELECT outbox.new_job_id(), '{{kind}}', jsonb_build_object('id', n), 'default', 2, {{runAt}}, 20
        FROM generate_series(1, {{jobs}}) AS n
        """);

    // The folder of a peer that runs under Node, its packages installed; null, and said, where that cannot be.
    public async Task<string?> NodePeerAsync(string name)
    {
        if (!HasPeers)
            return null;
        if (nodePeers.TryGetValue(name, out var known))
            return known;
        var folder = Path.Combine(Repository.Root, "benchmarks", "peers", name);
        nodePeers[name] = null;
        try
        {
            if (!Directory.Exists(Path.Combine(folder, "node_modules")))
            {
                Say($"npm install of {name}");
                using var npm = Process.Start(new ProcessStartInfo(OperatingSystem.IsWindows() ? "npm.cmd" : "npm", ["ci", "--no-audit", "--no-fund"])
                {
                    WorkingDirectory = folder,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                })!;
                await Task.WhenAll(npm.StandardOutput.ReadToEndAsync(), npm.StandardError.ReadToEndAsync(), npm.WaitForExitAsync());
                if (npm.ExitCode != 0)
                    throw new InvalidOperationException($"npm ended with {npm.ExitCode}");
            }

            nodePeers[name] = folder;
        }
        catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            Say($"{name} is missing from this run: {e.Message} (Node and npm are needed.)");
        }

        return nodePeers[name];
    }

    // As they were restored and installed.
    public IEnumerable<string> PeerVersions()
    {
        foreach (var assembly in new[] { typeof(Hangfire.BackgroundJobClient).Assembly, typeof(Hangfire.PostgreSql.PostgreSqlStorage).Assembly, typeof(Quartz.IScheduler).Assembly })
            yield return $"{assembly.GetName().Name} {FileVersionInfo.GetVersionInfo(assembly.Location).ProductVersion?.Split('+')[0]}";
        foreach (var (name, folder) in nodePeers.OrderBy(each => each.Key, StringComparer.Ordinal))
        {
            yield return folder is null
                ? $"{name} missing"
                : $"{name} {JsonElement.Parse(File.ReadAllText(Path.Combine(folder, "node_modules", name, "package.json"))).GetProperty("version")}";
        }
    }

    public static async Task ExecuteAsync(string connectionString, string sql)
    {
        await using var connection = new NpgsqlConnection(connectionString);
        await connection.ExecuteAsync(sql, commandTimeout: 1800, commandType: CommandType.Text);
    }

    public static async Task<T> ScalarAsync<T>(string connectionString, string sql)
    {
        await using var connection = new NpgsqlConnection(connectionString);
        return (await connection.ExecuteScalarAsync<T>(sql, commandTimeout: 600))!;
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();
}
