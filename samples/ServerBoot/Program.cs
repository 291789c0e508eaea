using System.CommandLine;
using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.Testing;
using Npgsql;
using ServerBoot;

var file = new Option<FileInfo>("--file")
{
    Description = "The servers: CSV with name,region,size. Default: the sample's own 400.",
    DefaultValueFactory = _ => new FileInfo(Path.Combine(AppContext.BaseDirectory, "servers.csv")),
};
var servers = new Option<int?>("--servers") { Description = "How many servers; the file is taken again when it has fewer. Default: as many as the file has." };
var connection = new Option<string?>("--connection") { Description = "A PostgreSQL server whose user may create databases. Default: one is found or started." };
var seed = new Option<int>("--seed") { Description = "Decides which transactions roll back and how long each boot takes.", DefaultValueFactory = _ => 1 };
var json = new Option<FileInfo?>("--json") { Description = "Writes the report to this file too." };
servers.Validators.Add(result =>
{
    if (result.Tokens.Count > 0 && int.TryParse(result.Tokens[0].Value, out var count) && count is < 1 or > 1_000_000)
        result.AddError("--servers must be 1 to 1000000.");
});
file.Validators.Add(result =>
{
    if (result.Tokens.Count > 0 && !File.Exists(result.Tokens[0].Value))
        result.AddError($"There is no file '{result.Tokens[0].Value}'.");
});

var worker = new Command("worker", "One worker process. Started by the sample itself.") { Hidden = true };
worker.SetAction((_, cancellationToken) => WorkerProgram.RunAsync(cancellationToken));

var root = new RootCommand("Boots servers through a transactional outbox, kills a worker on the way, and reports what came of it.")
{
    file, servers, connection, seed, json, worker,
};
root.SetAction(async (parsed, cancellationToken) =>
{
    try
    {
        return await Story.RunAsync(
            new StoryOptions(
                parsed.GetRequiredValue(file).FullName,
                parsed.GetValue(servers),
                parsed.GetValue(connection),
                parsed.GetValue(seed),
                parsed.GetValue(json)?.FullName),
            cancellationToken);
    }
    catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
    {
        await Console.Error.WriteLineAsync("Stopped before the end; there is no report.");
        return 130;
    }
    catch (Exception e) when (e is OutboxException or PostgresServerException or InvalidDataException or InvalidOperationException or IOException or NpgsqlException)
    {
        await Console.Error.WriteLineAsync(e.Message);
        return 2;
    }
});

// A worker's own stop takes what its handlers take: no time limit of the command line's before it.
return await root.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
