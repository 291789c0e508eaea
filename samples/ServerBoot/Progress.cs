using Npgsql;
using Spectre.Console;

namespace ServerBoot;

internal sealed record Snapshot(int Ended, long Committed, long Booted, long Waiting, long Running, IReadOnlyList<WorkerCount> Workers);

internal sealed record WorkerCount(string Name, int Pid, string State, long Booted, long Running);

// What the run looks like while it runs: a table that changes on a terminal, a line now and then elsewhere.
internal sealed class Progress(NpgsqlDataSource connections, Enqueuer enqueuer, WorkerFleet fleet, TimeProvider clock, int total)
{
    private static readonly TimeSpan OnTerminal = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan AsLines = TimeSpan.FromSeconds(2);

    private readonly List<string> events = [];
    private string? lastLine;

    public static bool IsTerminal => AnsiConsole.Profile.Out.IsTerminal;

    public void Tell(string text)
    {
        if (!IsTerminal)
            Console.WriteLine(text);
        else
        {
            lock (events)
                events.Add(text);
        }
    }

    // Until the run ends, and then once more.
    public async Task ShowAsync(Task run, CancellationToken cancellationToken)
    {
        if (!IsTerminal)
        {
            await EachAsync(run, AsLines, WriteLine, cancellationToken);
            return;
        }

        await AnsiConsole.Live(new Table()).StartAsync(live => EachAsync(run, OnTerminal, now => live.UpdateTarget(Draw(now)), cancellationToken));
    }

    // Nothing new is no line.
    private void WriteLine(Snapshot now)
    {
        var line = $"{now.Ended}/{total} transactions: {now.Committed} committed; {now.Booted} booted, {now.Waiting} waiting, {now.Running} running";
        if (line != lastLine)
            Console.WriteLine(line);
        lastLine = line;
    }

    private async Task EachAsync(Task run, TimeSpan pause, Action<Snapshot> show, CancellationToken cancellationToken)
    {
        while (!run.IsCompleted)
        {
            show(await LookAsync(cancellationToken));
            await Task.WhenAny(run, Task.Delay(pause, clock, cancellationToken));
        }

        if (run.IsCompletedSuccessfully)
            show(await LookAsync(cancellationToken));
    }

    private async Task<Snapshot> LookAsync(CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand(Sql.Read("progress"));
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        var (committed, booted, waiting, running) = (reader.GetInt64(0), reader.GetInt64(1), reader.GetInt64(2), reader.GetInt64(3));
        await reader.NextResultAsync(cancellationToken);
        var bootedBy = await CountsAsync(reader, cancellationToken);
        await reader.NextResultAsync(cancellationToken);
        var runningBy = await CountsAsync(reader, cancellationToken);
        return new Snapshot(
            enqueuer.Ended,
            committed,
            booted,
            waiting,
            running,
            [.. fleet.Workers.Select(each => new WorkerCount(
                each.Name, each.Pid, each.State, bootedBy.GetValueOrDefault(each.Pid), runningBy.GetValueOrDefault(each.Pid)))]);
    }

    private static async Task<Dictionary<int, long>> CountsAsync(NpgsqlDataReader reader, CancellationToken cancellationToken)
    {
        Dictionary<int, long> counts = [];
        while (await reader.ReadAsync(cancellationToken))
            counts[reader.GetInt32(0)] = reader.GetInt64(1);
        return counts;
    }

    private Rows Draw(Snapshot now)
    {
        var workers = new Table().AddColumns("process", "pid", "state", "booted", "holds");
        foreach (var each in now.Workers)
            workers.AddRow(each.Name, $"{each.Pid}", each.State, $"{each.Booted}", $"{each.Running}");
        var all = new BreakdownChart().Width(60)
            .AddItem("booted", now.Booted, Color.Green)
            .AddItem("running", now.Running, Color.Blue)
            .AddItem("waiting", now.Waiting, Color.Yellow);
        lock (events)
            return new Rows([new Text($"{now.Ended}/{total} transactions, {now.Committed} committed"), all, workers, .. events.Select(each => new Text(each))]);
    }
}
