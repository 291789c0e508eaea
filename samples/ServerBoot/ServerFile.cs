using Sylvan.Data.Csv;

namespace ServerBoot;

internal sealed record ServerRow(string Name, string Region, string Size);

// Reads the servers. A row that is not one is reported by its line, and costs nobody else anything.
internal static class ServerFile
{
    private static readonly string[] Columns = ["name", "region", "size"];
    private static readonly string[] Sizes = ["small", "medium", "large", "xlarge"];

    public static (List<ServerRow> Rows, List<string> Faults) Read(string path)
    {
        List<ServerRow> rows = [];
        List<string> faults = [];
        HashSet<string> names = new(StringComparer.Ordinal);
        var number = 0;
        foreach (var line in File.ReadLines(path))
        {
            number++;
            if (line.Length == 0)
                continue;
            var (fields, fault) = Split(line);
            if (number == 1)
            {
                if (fault is not null || !fields.SequenceEqual(Columns, StringComparer.OrdinalIgnoreCase))
                    throw new InvalidDataException($"{path}: line 1 must be the header '{string.Join(',', Columns)}'.");
                continue;
            }

            fault ??= Check(fields);
            if (fault is null && !names.Add(fields[0]))
                fault = $"the name '{fields[0]}' stands in an earlier line already";
            if (fault is null)
                rows.Add(new ServerRow(fields[0], fields[1], fields[2]));
            else
                faults.Add($"{Path.GetFileName(path)}, line {number}: {fault}; skipped.");
        }

        return (rows, faults);
    }

    // As many as wanted: the file again and again, with names of their own.
    public static IEnumerable<ServerRow> Take(IReadOnlyList<ServerRow> rows, int count) => Enumerable.Range(0, count).Select(index =>
        index < rows.Count ? rows[index] : rows[index % rows.Count] with { Name = $"{rows[index % rows.Count].Name}#{(index / rows.Count) + 1}" });

    private static string? Check(string[] fields) =>
        fields.Length != Columns.Length ? $"{fields.Length} columns instead of {Columns.Length}"
        : fields[0].Length == 0 ? "the name is empty"
        : fields[1].Length == 0 ? "the region is empty"
        : !Sizes.Contains(fields[2]) ? $"unknown size '{fields[2]}' (known: {string.Join(", ", Sizes)})"
        : null;

    // Line by line: no field has a line break in it, and so a quote that is never closed spoils its own line and not the rest of the file.
    private static (string[] Fields, string? Fault) Split(string line)
    {
        try
        {
            using var csv = CsvDataReader.Create(new StringReader(line), new CsvDataReaderOptions { HasHeaders = false, Delimiter = ',' });
            return csv.Read() ? ([.. Enumerable.Range(0, csv.RowFieldCount).Select(index => csv.GetString(index).Trim())], null) : ([], null);
        }
        catch (Exception e) when (e is FormatException or InvalidDataException or CsvFormatException)
        {
            return ([], "not CSV (a quote that is not closed, or stands inside of a field)");
        }
    }
}
