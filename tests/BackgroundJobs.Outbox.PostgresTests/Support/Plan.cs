using System.Globalization;
using System.Text.Json;
using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

// How PostgreSQL runs a statement: EXPLAIN (ANALYZE, BUFFERS) of one of our files, rolled back afterwards.
internal sealed class Plan
{
    private Plan(JsonElement root)
    {
        Nodes = [.. Flatten(root.GetProperty("Plan"))];
        Buffers = Number(root.GetProperty("Plan"), "Shared Hit Blocks") + Number(root.GetProperty("Plan"), "Shared Read Blocks");
    }

    public IReadOnlyList<JsonElement> Nodes { get; }

    // Pages touched: what a statement costs on any machine.
    public long Buffers { get; }

    public IEnumerable<string> Indexes => Nodes.Select(node => Text(node, "Index Name")).OfType<string>();

    // With positional parameters and no comments, as the library sends it; of the one query in a file that brings its own transaction.
    public static Task<Plan> OfAsync(NpgsqlDataSource database, string name, params (string Name, object? Value)[] values)
    {
        var file = SqlFile.Read(typeof(JobQueue).Assembly, name, JobDefaults.Schema);
        var sql = file.Text;
        if (sql.StartsWith("BEGIN", StringComparison.Ordinal))
            sql = sql.Split(';').Single(part => part.TrimStart() is ['W', 'I', 'T', 'H', ..] or ['S', 'E', 'L', 'E', 'C', 'T', ..]);
        return OfSqlAsync(database, sql, [.. file.Parameters.Select(name => values.Single(each => each.Name == name).Value)]);
    }

    public static async Task<Plan> OfSqlAsync(NpgsqlDataSource database, string sql, params object?[] values)
    {
        await using var connection = await database.OpenConnectionAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await using var explain = new NpgsqlCommand($"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", connection, transaction);
        foreach (var value in values)
            explain.Parameters.Add(new NpgsqlParameter { Value = value ?? DBNull.Value });
        var json = (string)(await explain.ExecuteScalarAsync())!;
        await transaction.RollbackAsync();
        using var document = JsonDocument.Parse(json);
        return new(document.RootElement[0].Clone());
    }

    public void MustUse(string index) => Assert.Contains(index, Indexes);

    // A history partition's index has a name of its own.
    public void MustUseIndexOn(string table, string endsWith) => Assert.Contains(
        Nodes,
        node => (Text(node, "Relation Name") ?? Text(node, "Index Name") ?? "").StartsWith(table, StringComparison.Ordinal)
            && (Text(node, "Index Name")?.EndsWith(endsWith, StringComparison.Ordinal) ?? false));

    public void MustNotScan(string table) => Assert.DoesNotContain(
        Nodes, node => Text(node, "Node Type") == "Seq Scan" && Text(node, "Relation Name")!.StartsWith(table, StringComparison.Ordinal) && Number(node, "Actual Rows") > 0);

    private static IEnumerable<JsonElement> Flatten(JsonElement node) =>
        node.TryGetProperty("Plans", out var plans) ? plans.EnumerateArray().SelectMany(Flatten).Prepend(node) : [node];

    private static string? Text(JsonElement node, string name) => node.TryGetProperty(name, out var value) ? value.GetString() : null;

    private static long Number(JsonElement node, string name) =>
        node.TryGetProperty(name, out var value) ? (long)double.Parse(value.GetRawText(), CultureInfo.InvariantCulture) : 0;
}
