using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using BackgroundJobs.Outbox.Benchmarks.Harness;
using Spectre.Console;

namespace BackgroundJobs.Outbox.Benchmarks.Report;

internal static class Table
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static void Print(IReadOnlyList<Row> rows)
    {
        var table = new Spectre.Console.Table().Border(TableBorder.Minimal).AddColumns("scenario", "median", "min", "max", "unit", "against", "its median", "ratio", "bar", "met");
        foreach (var row in rows)
        {
            table.AddRow(
                new Text(row.Scenario), Cell(row.Value), Cell(row.Min), Cell(row.Max), new Text(row.Unit), new Text(row.Against ?? ""), Cell(row.AgainstValue),
                new Text(row.Ratio is { } ratio ? ratio.ToString("0.00", CultureInfo.InvariantCulture) : ""), new Text(row.Bar ?? ""),
                new Markup(row.Met switch { true => "[green]yes[/]", false => "[red]no[/]", _ => "" }));
        }

        // A log has no window to fit into.
        if (Console.IsOutputRedirected)
            AnsiConsole.Profile.Width = 240;
        AnsiConsole.Write(table);
    }

    public static Task WriteJsonAsync(string file, IReadOnlyList<Row> rows) => File.WriteAllTextAsync(file, JsonSerializer.Serialize(rows, Json) + "\n");

    public static string Number(double? value) => value switch
    {
        null => "",
        > 0 and < 0.1 => value.Value.ToString("0.0000", CultureInfo.InvariantCulture),
        >= 1000 or <= -1000 => value.Value.ToString("N0", CultureInfo.InvariantCulture),
        >= 10 or <= -10 => value.Value.ToString("0.0", CultureInfo.InvariantCulture),
        _ => value.Value.ToString("0.00", CultureInfo.InvariantCulture),
    };

    private static Text Cell(double? value) => new(Number(value));
}
