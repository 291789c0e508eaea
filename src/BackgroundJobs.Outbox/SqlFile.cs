using System.Collections.Concurrent;
using System.Reflection;
using System.Text.RegularExpressions;

namespace BackgroundJobs.Outbox;

// An embedded .sql file, read once per schema. Files say outbox. and @name: they run in psql as they are, and the schema and the
// positional parameters that Npgsql can send without parsing are put in here.
internal sealed partial class SqlFile
{
    private static readonly ConcurrentDictionary<(Assembly, string, string), SqlFile> Files = new();

    private SqlFile(string name, string named)
    {
        Name = name;
        Named = named;
        List<string> parameters = [];
        Text = Parameter().Replace(Comment().Replace(named, ""), match =>
        {
            var parameter = match.Groups[1].Value;
            if (!parameters.Contains(parameter))
                parameters.Add(parameter);
            return $"${parameters.IndexOf(parameter) + 1}";
        }).Trim();
        Parameters = parameters;
    }

    // Such as sql/claim_jobs.sql.
    public string Name { get; }

    // With @name, for Dapper.
    public string Named { get; }

    // With $1, $2, ... and without comments.
    public string Text { get; }

    // The names of $1, $2, ...
    public IReadOnlyList<string> Parameters { get; }

    // With a literal in place of its one parameter, for a statement that takes none.
    public string With(string literal) => Text.Replace("$1", $"'{literal.Replace("'", "''", StringComparison.Ordinal)}'", StringComparison.Ordinal);

    public static SqlFile Read(Assembly assembly, string name, string schema) => Files.GetOrAdd((assembly, name, schema), static key =>
    {
        var (assembly, name, schema) = key;
        using var stream = assembly.GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"{assembly.GetName().Name} has no embedded file {name}.");
        using var reader = new StreamReader(stream);
        return new SqlFile(name, WithSchema(reader.ReadToEnd(), schema));
    });

    public static IEnumerable<string> Names(Assembly assembly, string folder) => assembly.GetManifestResourceNames()
        .Where(name => name.StartsWith(folder + "/", StringComparison.Ordinal))
        .Order(StringComparer.Ordinal);

    // The name was checked (JobName.CheckSchema): letters, digits and _ only. Quoted, because it may be a reserved word.
    private static string WithSchema(string sql, string schema) =>
        schema == JobDefaults.Schema ? sql : Schema().Replace(sql, match => match.Value.StartsWith("outbox_", StringComparison.Ordinal)
            ? schema + match.Value["outbox".Length..]
            : match.Value.Replace("outbox", $"\"{schema}\"", StringComparison.Ordinal));

    [GeneratedRegex(@"(?<![@\w])@([a-z_][a-z0-9_]*)")]
    private static partial Regex Parameter();

    [GeneratedRegex(@"^\s*--.*\n?", RegexOptions.Multiline)]
    private static partial Regex Comment();

    // The channel and the roles carry the schema's name too.
    [GeneratedRegex(@"\boutbox\.|\bSCHEMA (IF NOT EXISTS )?outbox\b|\boutbox_(jobs|owner|migrator|enqueue|worker|inspector|operator)\b")]
    private static partial Regex Schema();
}
