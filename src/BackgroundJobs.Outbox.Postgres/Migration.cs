using System.Globalization;
using System.Text.RegularExpressions;

namespace BackgroundJobs.Outbox.Postgres;

// One numbered file of migrations/, with the schema put in.
internal sealed partial record Migration(int Version, string Name, bool Breaking, string Body)
{
    // In the same folder, and no migration: it says who may do what, and is run by others.
    private const string Roles = "migrations/roles.sql";

    public static string RolesScript(string schema) => SqlFile.Read(typeof(Migration).Assembly, Roles, schema).Named;

    public static IReadOnlyList<Migration> Embedded(string schema) =>
    [
        .. SqlFile.Names(typeof(Migration).Assembly, "migrations")
            .Where(name => name != Roles)
            .Select(name => Parse(name, SqlFile.Read(typeof(Migration).Assembly, name, schema).Named))
            .OrderBy(migration => migration.Version),
    ];

    public static Migration Parse(string file, string body)
    {
        var match = FileName().Match(file);
        if (!match.Success)
            throw new InvalidOperationException($"Migration '{file}' is not named NNNN_verb_object.sql.");
        return new(
            int.Parse(match.Groups["version"].ValueSpan, CultureInfo.InvariantCulture),
            match.Groups["name"].Value,
            BreakingLine().IsMatch(Header().Match(body).Value),
            body);
    }

    // The name was matched and the body is our own embedded file: nothing from outside goes into this text.
    public string ToSql(string schema) => SqlFile.Read(typeof(Migration).Assembly, "sql/apply_migration.sql", schema).Named
        .Replace("@version", Version.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal)
        .Replace("@name", Name, StringComparison.Ordinal)
        .Replace("@breaking", Breaking ? "true" : "false", StringComparison.Ordinal)
        .Replace("@body", Body.TrimEnd(), StringComparison.Ordinal);

    [GeneratedRegex(@"(?<name>(?<version>[0-9]{4})_[a-z0-9_]+)\.sql\z", RegexOptions.CultureInvariant)]
    private static partial Regex FileName();

    // The comment lines at the top.
    [GeneratedRegex(@"\A(--[^\n]*\n)*")]
    private static partial Regex Header();

    [GeneratedRegex(@"^-- breaking: yes\s*$", RegexOptions.Multiline)]
    private static partial Regex BreakingLine();
}
