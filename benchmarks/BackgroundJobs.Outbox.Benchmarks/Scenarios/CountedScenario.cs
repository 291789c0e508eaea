using BackgroundJobs.Outbox.Benchmarks.Harness;
using BackgroundJobs.Outbox.Benchmarks.Roles;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.Testing;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.Benchmarks.Scenarios;

// What is counted, not timed: statements, commits, fsyncs and WAL of one job, and what an idle worker asks of its database.
internal sealed class CountedScenario : IScenario
{
    private const string Counters = """
        SELECT jsonb_build_object(
            'statements', (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel),
            'commits', (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
            'fsyncs', (SELECT wal_sync FROM pg_stat_wal),
            'wal', pg_current_wal_lsn() - '0/0'::pg_lsn)::text
        """;

    // Seconds. By then the runtime has compiled what runs often for the second and third time, each after thirty calls, of which a poll makes
    // one in two and a half seconds (a hundredth of a core for a minute and longer); and connections that only the start needed are closed.
    private const int Settle = 180;

    public string Name => "counted";

    public string Title => "Counted, not timed";

    public async Task<IReadOnlyList<Row>> RunAsync(Bench bench)
    {
        PostgresServerOptions options = new() { Durable = true };
        options.Settings["shared_preload_libraries"] = "pg_stat_statements";
        await using var server = await PostgresServer.StartAsync(options);
        List<Row> rows = [];

        await IdleAsync(rows, server, "a worker of ours", migrate: true, connection => Child.Role("serve", connection, 0, Settle), bench, bar: true);
        await IdleAsync(rows, server, "Hangfire", migrate: false, connection => Child.Role("hangfire-serve", connection, 0, Settle), bench, bar: false);
        foreach (var name in new[] { "pg-boss", "graphile-worker" })
        {
            if (await bench.NodePeerAsync(name) is { } folder)
                await IdleAsync(rows, server, name, migrate: false, connection => Child.Node(folder, connection, "idle", IdleSeconds(bench)), bench, bar: false);
        }

        const int Jobs = 20_000;
        var ours = await server.CreateDatabaseAsync();
        await Migrator.MigrateAsync(ours);
        await Bench.ExecuteAsync(ours, "CREATE EXTENSION pg_stat_statements");
        await Bench.ExecuteAsync(ours, BenchDb.Tables);
        await CountAsync(rows, ours, "enqueue of one job with its entity", 500, async () =>
        {
            for (var n = 0; n < 500; n++)
            {
                await using var db = BenchDb.Open(ours);
                db.Add(new BenchDb.Thing { Name = "a" });
                db.Enqueue(new Noop(n));
                await db.SaveChangesAsync();
            }
        });
        await Bench.ExecuteAsync(ours, "TRUNCATE outbox.jobs");
        await Bench.PreloadAsync(ours, Jobs);
        await CountAsync(rows, ours, "run of one job of many", Jobs, async () =>
        {
            using var child = Child.Role("drain", ours, 0, Jobs, HistoryPolicy.Keep);
            await child.AnswerAsync(TimeSpan.FromMinutes(2));
        });
        if (await bench.NodePeerAsync("graphile-worker") is { } graphile)
        {
            var theirs = await server.CreateDatabaseAsync();
            await Bench.ExecuteAsync(theirs, "CREATE EXTENSION pg_stat_statements");
            using (var preload = Child.Node(graphile, theirs, "preload", Jobs))
                await preload.AnswerAsync(TimeSpan.FromMinutes(2));
            await CountAsync(rows, theirs, "graphile-worker: run of one job of many", Jobs, async () =>
            {
                using var child = Child.Node(graphile, theirs, "drain", 0, Jobs);
                await child.AnswerAsync(TimeSpan.FromMinutes(2));
            });
        }

        var hangfire = await server.CreateDatabaseAsync();
        await Bench.ExecuteAsync(hangfire, "CREATE EXTENSION pg_stat_statements");
        using (var preload = Child.Role("hangfire-preload", hangfire, 1000))
            await preload.AnswerAsync(TimeSpan.FromMinutes(2));
        await CountAsync(rows, hangfire, "Hangfire: run of one job of many", 1000, async () =>
        {
            using var child = Child.Role("hangfire-drain", hangfire, 0, 1000);
            await child.AnswerAsync(TimeSpan.FromMinutes(2));
        });
        return rows;
    }

    private static int IdleSeconds(Bench bench) => Math.Max(10, (int)bench.Scaled(TimeSpan.FromSeconds(60)).TotalSeconds);

    private static async Task IdleAsync(List<Row> rows, PostgresServer server, string who, bool migrate, Func<string, Child> start, Bench bench, bool bar)
    {
        var connection = await server.CreateDatabaseAsync();
        if (migrate)
            await Migrator.MigrateAsync(connection);
        await Bench.ExecuteAsync(connection, "CREATE EXTENSION pg_stat_statements");
        var seconds = IdleSeconds(bench);
        using var child = start(connection);
        await child.Ready.WaitAsync(TimeSpan.FromSeconds(Settle + 60), TimeProvider.System);
        await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
        var before = await ReadAsync(connection);
        await Task.Delay(TimeSpan.FromSeconds(seconds - 4), TimeProvider.System);
        var used = (await ReadAsync(connection)).Statements - before.Statements - 1;
        var connections = await Bench.ScalarAsync<long>(
            connection, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name NOT LIKE '%Benchmarks%'");
        child.Stop();
        var answer = await child.AnswerAsync(TimeSpan.FromMinutes(1));
        var processor = answer.GetProperty("cpuSeconds").GetDouble() / (answer.TryGetProperty("seconds", out var measured) ? measured.GetDouble() : seconds) * 100;
        Samples statements = new(used / (double)(seconds - 4)), cpu = new(processor), count = new(connections);
        rows.Add(bar ? Row.Below($"idle: {who}, statements", statements, "1/s", 1) : Row.Shown($"idle: {who}, statements", statements, "1/s"));
        rows.Add(bar ? Row.Below($"idle: {who}, processor", cpu, "% of a core", 0.5) : Row.Shown($"idle: {who}, processor", cpu, "% of a core"));
        rows.Add(bar ? Row.Below($"idle: {who}, connections", count, "connections", 3) : Row.Shown($"idle: {who}, connections", count, "connections"));
    }

    private static async Task CountAsync(List<Row> rows, string connection, string what, int jobs, Func<Task> act)
    {
        await Bench.ExecuteAsync(connection, "CHECKPOINT");
        var before = await ReadAsync(connection);
        await act();
        await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
        var after = await ReadAsync(connection);
        rows.Add(Row.Shown($"{what}: statements", new((after.Statements - before.Statements) / (double)jobs), "per job"));
        rows.Add(Row.Shown($"{what}: commits", new((after.Commits - before.Commits) / (double)jobs), "per job"));
        rows.Add(Row.Shown($"{what}: fsyncs", new((after.Fsyncs - before.Fsyncs) / (double)jobs), "per job"));
        rows.Add(Row.Shown($"{what}: WAL", new((after.Wal - before.Wal) / (double)jobs), "bytes per job"));
    }

    private static async Task<(long Statements, long Commits, long Fsyncs, long Wal)> ReadAsync(string connection)
    {
        // Backends report with a delay.
        var counters = System.Text.Json.JsonElement.Parse(await Bench.ScalarAsync<string>(connection, Counters));
        long Of(string name) => (long)counters.GetProperty(name).GetDouble();
        return (Of("statements"), Of("commits"), Of("fsyncs"), Of("wal"));
    }
}
