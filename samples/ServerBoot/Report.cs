using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Npgsql;

namespace ServerBoot;

// What the database says when all is over. The first nine are the report; the rest finds promises that were broken.
internal sealed record Report(
    long Committed,
    long RolledBack,
    long Booted,
    long RecordNotFound,
    long BootedTwice,
    long GhostBoots,
    double? RecoverySeconds,
    double? P50Ms,
    double? P99Ms)
{
    private const double PromisedRecoverySeconds = 10;
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    [JsonIgnore]
    public long Held { get; init; }

    [JsonIgnore]
    public long Unfinished { get; init; }

    [JsonIgnore]
    public long GaveUp { get; init; }

    [JsonIgnore]
    public long Lost { get; init; }

    [JsonIgnore]
    public long Starts { get; init; }

    public static async Task<Report> ReadAsync(NpgsqlDataSource connections, CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand(Sql.Read("report"));
        await using var row = await command.ExecuteReaderAsync(cancellationToken);
        await row.ReadAsync(cancellationToken);
        double? Measured(int column) => row.IsDBNull(column) ? null : Math.Round(row.GetDouble(column), 3);
        return new Report(
            row.GetInt64(0), row.GetInt64(1), row.GetInt64(2), row.GetInt64(3), row.GetInt64(4), row.GetInt64(5), Measured(6), Measured(7), Measured(8))
        {
            Held = row.GetInt64(9),
            Unfinished = row.GetInt64(10),
            GaveUp = row.GetInt64(11),
            Lost = row.GetInt64(12),
            Starts = row.GetInt64(13),
        };
    }

    public IReadOnlyList<string> Broken()
    {
        List<string> broken = [];
        void Check(bool kept, string fault)
        {
            if (!kept)
                broken.Add(fault);
        }

        Check(Booted == Committed, $"{Committed} servers were committed, {Booted} booted");
        Check(Lost == 0, $"{Lost} servers are gone whose commit was confirmed");
        Check(RecordNotFound == 0, $"{RecordNotFound} jobs did not find their server");
        Check(BootedTwice == 0, $"{BootedTwice} servers were booted twice in effect");
        Check(GhostBoots == 0, $"{GhostBoots} servers of rolled-back transactions were booted");
        Check(Unfinished == 0, $"{Unfinished} jobs did not end");
        Check(GaveUp == 0, $"{GaveUp} jobs gave up");
        Check(Held == 0 || RecoverySeconds is not null, "no job of the killed worker ran again");
        Check(RecoverySeconds is not > PromisedRecoverySeconds, $"the jobs of the killed worker ran again only after {RecoverySeconds} s");
        return broken;
    }

    public void Print()
    {
        var culture = CultureInfo.InvariantCulture;
        Console.WriteLine();
        Console.WriteLine("Report, read from the database");
        Line("committed", $"{Committed}");
        Line("rolled back", $"{RolledBack}, on purpose");
        Line("booted", $"{Booted}, in {Starts} starts of the handler");
        Line("RecordNotFound", $"{RecordNotFound}");
        Line("booted twice in effect", $"{BootedTwice}");
        Line("boots of rolled-back servers", $"{GhostBoots}");
        Line("recovery after the kill", Held == 0
            ? "nothing to recover, the killed worker held no job"
            : string.Create(culture, $"{RecoverySeconds:0.00} s from SIGKILL to the first start of one of the {Held} jobs it held"));
        Line("from commit to start", string.Create(culture, $"p50 {P50Ms:0.0} ms, p99 {P99Ms:0.0} ms"));
        Console.WriteLine("  Measured from the return of SaveChanges to the first start of the handler, over all servers: also those that waited");
        Console.WriteLine("  in the burst, and those that the killed worker held and had not started.");
        foreach (var fault in Broken())
            Console.WriteLine($"A promise was broken: {fault}.");
    }

    public Task WriteAsync(string path, CancellationToken cancellationToken) =>
        File.WriteAllTextAsync(path, JsonSerializer.Serialize(this, Json) + Environment.NewLine, cancellationToken);

    private static void Line(string name, string value) => Console.WriteLine($"  {name,-30}{value}");
}
