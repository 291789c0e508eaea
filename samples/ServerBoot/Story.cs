namespace ServerBoot;

internal sealed record StoryOptions(string File, int? Servers, string? Connection, int Seed, string? Json);

// The whole run: servers are saved, workers boot them, one worker is killed and one restarted, and the database is asked what came of it.
internal static class Story
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(50);

    // For a machine that is very busy; far beyond what a run takes.
    private static readonly TimeSpan AfterEnqueuing = TimeSpan.FromMinutes(2);

    public static async Task<int> RunAsync(StoryOptions options, CancellationToken cancellationToken)
    {
        var (file, faults) = ServerFile.Read(options.File);
        foreach (var fault in faults)
            Console.WriteLine(fault);
        if (file.Count == 0)
            throw new InvalidDataException($"{options.File} has no server that could be booted.");
        var rows = ServerFile.Take(file, options.Servers ?? file.Count).ToList();

        await using var database = await Database.CreateAsync(options.Connection, cancellationToken);
        Console.WriteLine($"PostgreSQL: {database.Source}. {rows.Count} servers, seed {options.Seed}.");
        var clock = TimeProvider.System;
        var enqueuer = new Enqueuer(database.Connections, clock, options.Seed);
        Progress? progress = null;
        using var fleet = new WorkerFleet(
            database.Connections, new WorkerSettings(database.ConnectionString, options.Seed), clock, text => progress!.Tell(text));
        progress = new Progress(database.Connections, enqueuer, fleet, clock, rows.Count);

        using var failed = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var run = RunAsync(rows, database, enqueuer, fleet, clock, failed);
        await progress.ShowAsync(run, cancellationToken);
        await run;

        var report = await Report.ReadAsync(database.Connections, cancellationToken);
        report.Print();
        if (options.Json is not null)
            await report.WriteAsync(options.Json, cancellationToken);
        return report.Broken().Count == 0 ? 0 : 1;
    }

    private static async Task RunAsync(
        List<ServerRow> rows, Database database, Enqueuer enqueuer, WorkerFleet fleet, TimeProvider clock, CancellationTokenSource failed)
    {
        await fleet.StartAsync(failed.Token);
        Task[] both = [enqueuer.RunAsync(rows, failed.Token), fleet.DramaAsync(enqueuer.Burst, failed.Token)];
        await foreach (var ended in Task.WhenEach(both))
        {
            // The other one might wait for ever for what this one cannot do any more.
            if (!ended.IsCompletedSuccessfully)
                await failed.CancelAsync();
        }

        await Task.WhenAll(both);
        await BootedAsync(database, fleet, clock, failed.Token);
        await fleet.StopAsync(failed.Token);
    }

    // When it takes too long the report says what is missing.
    private static async Task BootedAsync(Database database, WorkerFleet fleet, TimeProvider clock, CancellationToken cancellationToken)
    {
        var start = clock.GetTimestamp();
        await using var command = database.Connections.CreateCommand("SELECT NOT EXISTS (SELECT FROM outbox.jobs)");
        while (!(bool)(await command.ExecuteScalarAsync(cancellationToken))! && clock.GetElapsedTime(start) < AfterEnqueuing)
        {
            fleet.CheckAlive();
            await Task.Delay(Look, clock, cancellationToken);
        }
    }
}
