namespace BackgroundJobs.Outbox.Chaos.History;

internal enum ChangeKind
{
    Insert,
    Update,
    Delete,
}

/// <summary>A change of one row, as PostgreSQL's test_decoding writes it.</summary>
/// <param name="Table">With its schema: outbox.jobs.</param>
/// <param name="Kind">What was done.</param>
/// <param name="Values">The new row's columns as text; of a deleted row its key alone; nothing where it has none.</param>
internal sealed record Change(string Table, ChangeKind Kind, IReadOnlyDictionary<string, string?> Values)
{
    private const string Start = "table ";
    private const string NewTuple = "new-tuple: ";

    public Guid Id(string column = "id") => Guid.Parse(Values[column]!);

    public Guid? IdOrNull(string column) => Values[column] is { } text ? Guid.Parse(text) : null;

    public int Number(string column) => int.Parse(Values[column]!, System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Reads one line of test_decoding.</summary>
    /// <param name="line">Such as <c>table outbox.jobs: DELETE: id[uuid]:'...'</c>.</param>
    /// <returns>The change.</returns>
    /// <exception cref="FormatException">It is no such line.</exception>
    public static Change Parse(string line)
    {
        var text = line.AsSpan();
        var tableEnd = text.IndexOf(": ");
        if (!text.StartsWith(Start) || tableEnd < 0)
            throw new FormatException($"This is no change: {line}");
        var table = text[Start.Length..tableEnd].ToString();
        text = text[(tableEnd + 2)..];
        var kindEnd = text.IndexOf(": ");
        var kind = Enum.Parse<ChangeKind>(text[..kindEnd], ignoreCase: true);
        text = text[(kindEnd + 2)..];

        // An update of a key says the old one first.
        if (text.StartsWith("old-key: "))
            text = text[(text.IndexOf(NewTuple) + NewTuple.Length)..];
        return new Change(table, kind, ReadColumns(text));
    }

    // name[type]:value name[type]:value, where a value is null, a word, or in quotes, doubled inside.
    private static Dictionary<string, string?> ReadColumns(ReadOnlySpan<char> text)
    {
        Dictionary<string, string?> values = new(StringComparer.Ordinal);
        if (text.StartsWith("(no-tuple-data)"))
            return values;
        while (text.Length > 0)
        {
            var name = text[..text.IndexOf('[')].Trim('"').ToString();
            text = text[(text.IndexOf("]:") + 2)..];
            if (text[0] == '\'')
            {
                var end = 1;
                while (text[end] != '\'' || (end + 1 < text.Length && text[end + 1] == '\''))
                    end += text[end] == '\'' ? 2 : 1;
                values[name] = text[1..end].ToString().Replace("''", "'", StringComparison.Ordinal);
                text = text[(end + 1)..];
            }
            else
            {
                var end = text.IndexOf(' ');
                var word = end < 0 ? text : text[..end];
                values[name] = word is "null" ? null : word.ToString();
                text = text[word.Length..];
            }

            text = text.TrimStart(' ');
        }

        return values;
    }
}

/// <summary>What one transaction changed, in commit order.</summary>
/// <param name="Xid">Its number.</param>
/// <param name="At">When it was committed, by the database's clock.</param>
/// <param name="Changes">In the order in which they were made.</param>
internal sealed record Committed(string Xid, DateTimeOffset At, IReadOnlyList<Change> Changes);
