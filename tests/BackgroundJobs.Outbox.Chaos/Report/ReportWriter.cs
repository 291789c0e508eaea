using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.History;
using Spectre.Console;

namespace BackgroundJobs.Outbox.Chaos.Report;

internal static class ReportWriter
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static void Print(ChaosReport report)
    {
        // A log has no window to fit into.
        if (Console.IsOutputRedirected)
            AnsiConsole.Profile.Width = 200;
        var facts = new Table().Border(TableBorder.Minimal).AddColumns("what", "how much");
        foreach (var (name, value) in Facts(report))
            facts.AddRow(new Text(name), new Text(value));
        AnsiConsole.Write(facts);

        var faults = new Table().Border(TableBorder.Minimal).AddColumns("fault", "injected", "took effect", "for instance");
        foreach (var fault in report.Injected.GroupBy(each => each.Name).OrderBy(each => each.Key, StringComparer.Ordinal))
        {
            var effective = fault.Where(each => each.Effect is not null).ToList();
            faults.AddRow(
                new Text(fault.Key), Number(fault.Count()), Number(effective.Count), new Text(effective.Select(each => each.Effect).FirstOrDefault() ?? fault.Last().Error ?? ""));
        }

        AnsiConsole.Write(faults);
        foreach (var missing in report.Missing)
            AnsiConsole.WriteLine($"Not injected here: {missing.Name}: {missing.Reason}.");
        foreach (var promise in Promise.All)
        {
            if (!report.Violations.TryGetValue(promise, out var broken))
                continue;
            AnsiConsole.WriteLine($"BROKEN, {broken.Count} times: {promise}");
            foreach (var example in broken.Examples)
                AnsiConsole.WriteLine($"  {example}");
        }

        foreach (var reason in report.Inconclusive)
            AnsiConsole.WriteLine($"Inconclusive: {reason}.");
        AnsiConsole.WriteLine(!report.IsKept ? "A promise was broken." : report.Inconclusive.Count > 0 ? "Nothing was broken, but not everything was tried." : "Every promise was kept.");
    }

    public static async Task WriteJsonAsync(ChaosReport report, string file)
    {
        var value = new
        {
            report.Lost,
            report.Ghosts,
            report.DuplicatedEffects,
            report.FencedAccepted,
            report.Told.FencedRejected,
            Inconclusive = report.Inconclusive.Count > 0,
            InconclusiveBecause = report.Inconclusive,
            WorstRecoverySeconds = Math.Round(report.WorstRecovery.TotalSeconds, 2),
            WorstRescueSeconds = Math.Round(report.Told.WorstRescue.TotalSeconds, 2),
            WorstResumeSeconds = Math.Round(report.Told.WorstResume.TotalSeconds, 2),
            DrainSeconds = Math.Round(report.Drained.TotalSeconds, 2),
            report.Jobs,
            report.Rescues,
            report.Ticks,
            report.TicksBroken,
            report.Released,
            report.Alongside,
            report.GraphBroken,
            report.MostOfQueue,
            report.MostOfGroup,
            report.LimitsBroken,
            report.Ordered,
            report.PassedOver,
            report.OrderBroken,
            report.Paused,
            report.PausedBroken,
            report.LetGo,
            report.Met,
            report.UniqueBroken,
            report.Told.Ok,
            report.Told.Failed,
            report.Told.Duplicate,
            report.Told.UnknownCommitted,
            report.Told.UnknownRolledBack,
            report.Options.Seed,
            report.Options.Seconds,
            LeaseSeconds = report.Options.Lease.TotalSeconds,
            report.Server,
            Broken = report.Violations.ToDictionary(each => each.Key, each => new { each.Value.Count, each.Value.Examples }),
            Faults = report.Injected.Select(each => new
            {
                each.Name,
                AtSeconds = Math.Round(each.At.TotalSeconds, 2),
                ForSeconds = Math.Round(each.For.TotalSeconds, 2),
                each.Effect,
                each.Error,
            }),
            NotInjected = report.Missing,
        };
        await File.WriteAllTextAsync(file, JsonSerializer.Serialize(value, Json) + "\n");
    }

    private static IEnumerable<(string Name, string Value)> Facts(ChaosReport report) =>
    [
        ("jobs committed", report.Jobs.ToString("N0", CultureInfo.InvariantCulture)),
        ("lost", Count(report.Lost)),
        ("ghosts (run or effect without a commit, or without its entity)", Count(report.Ghosts)),
        ("duplicated transactional effects", Count(report.DuplicatedEffects)),
        ("writes of workers that had lost their lease: accepted", Count(report.FencedAccepted)),
        ("writes of workers that had lost their lease: refused", Count(report.Told.FencedRejected)),
        ("jobs that waited for others: let go / too early, or cancelled without need", $"{report.Released} / {report.GraphBroken}"),
        ("jobs added alongside running ones, for which others wait too", Count(report.Alongside)),
        ($"most jobs of the limited queue / of one group of it at a time (limits: {GroupQueues.Concurrency} / {GroupQueues.GroupConcurrency})", $"{report.MostOfQueue} / {report.MostOfGroup}"),
        ("jobs of ordered groups: started before others that waited / out of order / past a dead one by an operator", $"{report.Ordered} / {report.OrderBroken} / {report.PassedOver}"),
        ("groups paused or pushed back while jobs of them waited / jobs started meanwhile", $"{report.Paused} / {report.PausedBroken}"),
        ("jobs of unique keys: let go / stood for by another one / against their rule", $"{report.LetGo} / {report.Met} / {report.UniqueBroken}"),
        ("ticks of a schedule: taken / left out, twice, early or without their job", $"{report.Ticks} / {report.TicksBroken}"),
        ("jobs rescued from dead workers", Count(report.Rescues)),
        ("commits with a lost answer: happened / did not", $"{report.Told.UnknownCommitted} / {report.Told.UnknownRolledBack}"),
        ("operations told ok / failed or rolled back / saved before", $"{report.Told.Ok} / {report.Told.Failed} / {report.Told.Duplicate}"),
        ("worst time until a dead worker's job was free", $"{Seconds(report.Told.WorstRescue)}, at {Seconds(report.Told.WorstRescuedAt)}: {report.Told.WorstRescued}"),
        ("worst time until a restarted server's first job ended", Seconds(report.Told.WorstResume)),
        ("time to drain after healing", Seconds(report.Drained)),
        ("transactions read from the write-ahead log", report.Transactions.ToString("N0", CultureInfo.InvariantCulture)),
    ];

    private static Text Number(int count) => new(Count(count));

    private static string Count(int count) => count.ToString(CultureInfo.InvariantCulture);

    private static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.0} s");
}
