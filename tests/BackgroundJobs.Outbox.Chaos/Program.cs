using System.CommandLine;
using BackgroundJobs.Outbox.Chaos;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.Report;
using BackgroundJobs.Outbox.Testing;

var seconds = new Option<int>("--seconds") { Description = "How long faults are injected; draining and checking come on top.", DefaultValueFactory = _ => 300 };
var seed = new Option<int>("--seed") { Description = "Decides the faults and what the writers write. Default: 1.", DefaultValueFactory = _ => 1 };
var lease = new Option<double>("--lease") { Description = "The workers' lease in seconds. Default: 6, the library's own.", DefaultValueFactory = _ => 6 };
var json = new Option<FileInfo?>("--json") { Description = "Writes the report to this file; `replay FILE` runs its plan again." };
var file = new Argument<FileInfo>("file") { Description = "A report that --json wrote." };

var worker = new Command("worker", "One worker process. Started by the run itself.") { Hidden = true };
worker.SetAction((_, cancellationToken) => WorkerProgram.RunAsync(cancellationToken));
var writer = new Command("writer", "One writing application. Started by the run itself.") { Hidden = true };
writer.SetAction((_, cancellationToken) => WriterProgram.RunAsync(cancellationToken));
var replay = new Command("replay", "Runs the same faults in the same order again. What meets what is up to the machine.") { file };
replay.SetAction((parsed, cancellationToken) =>
{
    var old = ReportReader.Read(parsed.GetRequiredValue(file).FullName);
    return RunAsync(old.Seconds, old.Seed, old.Lease, null, cancellationToken);
});

var root = new RootCommand("Attacks a whole system of writers, workers and PostgreSQL, and checks every promise against its write-ahead log.")
{
    seconds, seed, lease, json, replay, worker, writer,
};
root.SetAction((parsed, cancellationToken) => RunAsync(
    parsed.GetRequiredValue(seconds), parsed.GetRequiredValue(seed), TimeSpan.FromSeconds(parsed.GetRequiredValue(lease)), parsed.GetValue(json)?.FullName, cancellationToken));

// A worker's own stop takes what its handlers take: no time limit of the command line's before it.
return await root.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });

// 0: every promise was kept. 1: one was broken. 3: none was, but not every fault took effect.
static async Task<int> RunAsync(int seconds, int seed, TimeSpan lease, string? json, CancellationToken cancellationToken)
{
    var folder = Directory.CreateTempSubdirectory("outbox-chaos-").FullName;
    try
    {
        var report = await new ChaosRun(new ChaosOptions(seconds, seed, lease, folder), Console.WriteLine).RunAsync(cancellationToken);
        ReportWriter.Print(report);
        if (json is not null)
            await ReportWriter.WriteJsonAsync(report, json);
        if (report.IsKept)
            Directory.Delete(folder, recursive: true);
        return !report.IsKept ? 1 : report.Inconclusive.Count > 0 ? 3 : 0;
    }
    catch (PostgresServerException e)
    {
        await Console.Error.WriteLineAsync(e.Message);
        return 2;
    }
}
