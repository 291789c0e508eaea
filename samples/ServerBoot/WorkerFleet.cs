using Npgsql;

namespace ServerBoot;

// The workers of the story and what happens to them: one is killed, one is restarted gracefully.
internal sealed class WorkerFleet(NpgsqlDataSource connections, WorkerSettings settings, TimeProvider clock, Action<string> tell) : IDisposable
{
    private static readonly TimeSpan BeforeReplacement = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan LookForRegistration = TimeSpan.FromMilliseconds(100);

    private readonly Lock changing = new();
    private readonly List<WorkerProcess> workers = [];

    public IReadOnlyList<WorkerProcess> Workers
    {
        get
        {
            lock (changing)
                return [.. workers];
        }
    }

    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var (a, b) = (Start("worker A"), Start("worker B"));
        await RegisteredAsync(a, cancellationToken);
        await RegisteredAsync(b, cancellationToken);
        tell($"Two worker processes run: A is {a.Pid}, B is {b.Pid}.");
    }

    public async Task DramaAsync(Task burst, CancellationToken cancellationToken)
    {
        await burst.WaitAsync(cancellationToken);
        var (a, b) = (Workers[0], Workers[1]);
        await BusyAsync(a, cancellationToken);
        var killedAt = clock.GetTimestamp();
        await a.KillAsync();
        var held = await NoteHeldAsync(a, clock.GetElapsedTime(killedAt), cancellationToken);
        tell($"Worker A ({a.Pid}) was killed with SIGKILL. It held {held} jobs.");

        await Task.Delay(BeforeReplacement, clock, cancellationToken);
        var c = Start("worker C");
        await RegisteredAsync(c, cancellationToken);
        tell($"Worker C ({c.Pid}) runs in its place.");

        await b.StopAsync(cancellationToken);
        tell($"Worker B ({b.Pid}) was asked to stop and {b.State}.");
        var d = Start("worker D");
        await RegisteredAsync(d, cancellationToken);
        tell($"Worker D ({d.Pid}) runs in its place.");
    }

    // A worker that ends by itself is a fault of the sample, not a part of the story.
    public void CheckAlive()
    {
        if (Workers.FirstOrDefault(each => each.State == "runs" && each.HasExited) is { } dead)
            throw new InvalidOperationException($"{dead.Name} ({dead.Pid}) ended by itself. Its last lines:{Environment.NewLine}{dead.Said}");
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        foreach (var worker in Workers.Where(each => each.State == "runs"))
            await worker.StopAsync(cancellationToken);
    }

    public void Dispose()
    {
        foreach (var worker in Workers)
            worker.Dispose();
    }

    private WorkerProcess Start(string name)
    {
        var worker = WorkerProcess.Start(name, settings);
        lock (changing)
            workers.Add(worker);
        return worker;
    }

    private Task RegisteredAsync(WorkerProcess worker, CancellationToken cancellationToken) => UntilAsync(
        "SELECT EXISTS (SELECT FROM outbox.workers WHERE process_id = $1)", worker, LookForRegistration, cancellationToken);

    private Task BusyAsync(WorkerProcess worker, CancellationToken cancellationToken) => UntilAsync(
        "SELECT EXISTS (SELECT FROM outbox.jobs AS j JOIN outbox.workers AS w ON w.id = j.worker_id WHERE w.process_id = $1) OR NOT EXISTS (SELECT FROM outbox.jobs)",
        worker,
        Look,
        cancellationToken);

    private async Task UntilAsync(string sql, WorkerProcess worker, TimeSpan look, CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand(sql);
        command.Parameters.AddWithValue(worker.Pid);
        while (!(bool)(await command.ExecuteScalarAsync(cancellationToken))!)
        {
            CheckAlive();
            await Task.Delay(look, clock, cancellationToken);
        }
    }

    // After the kill, so that it is what the worker held when it died, not a moment before.
    private async Task<int> NoteHeldAsync(WorkerProcess worker, TimeSpan ago, CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand(
            """
            INSERT INTO held_at_kill (job_id, killed_at)
            SELECT j.id, clock_timestamp() - $2
            FROM outbox.jobs AS j
            JOIN outbox.workers AS w ON w.id = j.worker_id
            WHERE w.process_id = $1
            """);
        command.Parameters.AddWithValue(worker.Pid);
        command.Parameters.AddWithValue(ago);
        return await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
