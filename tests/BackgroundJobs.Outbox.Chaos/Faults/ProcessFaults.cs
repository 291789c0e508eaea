using System.Globalization;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.Server;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Faults;

internal static class ProcessFaults
{
    private static readonly TimeSpan ShiftHeld = TimeSpan.FromSeconds(3);

    [Fault("W01", "SIGKILL of any worker at any moment", "nothing lost, no effect twice")]
    public static async Task<string?> KillWorkerAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        var worker = Any(arena.Workers, random);
        var process = worker.Process;
        var held = await HeldAsync(arena, process.Id, cancellationToken);
        arena.Died(process.Id);
        process.Kill();
        await process.WaitForExitAsync(cancellationToken);
        return $"{worker.Name} died with {held} jobs";
    }

    [Fault("E02", "SIGKILL of a writer at any moment", "a job exists exactly if its entity does")]
    public static async Task<string?> KillWriterAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        var writer = Any(arena.Writers, random);
        var process = writer.Process;
        process.Kill();
        await process.WaitForExitAsync(cancellationToken);
        return $"{writer.Name} died";
    }

    [Fault("W18", "SIGTERM of any worker at any moment", "nothing lost, no failure charged")]
    public static async Task<string?> TerminateWorkerAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        var worker = Any(arena.Workers, random);
        var process = worker.Process;
        if (!process.Send(Signals.Terminate))
            return null;
        await process.WaitForExitAsync(cancellationToken);
        return process.ExitCode == 0 ? $"{worker.Name} stopped by itself" : null;
    }

    // A zombie: it wakes when its jobs have been given to others, and goes on where it was.
    [Fault("W02", "SIGSTOP beyond the lease at any moment", "no write of the zombie is accepted")]
    public static async Task<string?> FreezeWorkerAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        var worker = Any(arena.Workers, random);
        var process = worker.Process;
        if (!process.Send(Signals.Stop))
            return null;
        arena.Died(process.Id);
        try
        {
            var until = TimeProvider.System.GetTimestamp();
            while (TimeProvider.System.GetElapsedTime(until) < arena.Options.Lease * 4)
            {
                await Task.Delay(arena.Options.Lease / 10, TimeProvider.System, cancellationToken);
                if (TimeProvider.System.GetElapsedTime(until) > arena.Options.Lease * 1.5 && await IsGoneAsync(arena, process.Id, cancellationToken))
                    return $"{worker.Name} was declared dead while frozen";
            }

            return null;
        }
        finally
        {
            process.Send(Signals.Continue);
        }
    }

    [Fault("W33", "a worker's clock is an hour off, or drifts", "no early run, no early rescue: the database's clock decides")]
    public static async Task<string?> ShiftClockAsync(Arena arena, Random random, CancellationToken cancellationToken)
    {
        var hours = random.Next(2) == 0 ? 1 : -1;
        var worker = arena.ShiftedWorker;
        await File.WriteAllTextAsync(arena.ClockFile, string.Create(CultureInfo.InvariantCulture, $"{hours * 3600:+0;-0}"), cancellationToken);
        try
        {
            await Task.Delay(ShiftHeld, TimeProvider.System, cancellationToken);

            // It says every second what time it thinks it is.
            var now = DateTimeOffset.Parse(ActorLog.Read(worker.LogFile).Last(line => line.What == Word.Clock).Note!, CultureInfo.InvariantCulture);
            var shift = now - TimeProvider.System.GetUtcNow();
            return Math.Abs(shift.TotalMinutes) > 30 ? string.Create(CultureInfo.InvariantCulture, $"{worker.Name} was {shift.TotalMinutes:+0;-0} minutes off") : null;
        }
        finally
        {
            await File.WriteAllTextAsync(arena.ClockFile, "+0", CancellationToken.None);
        }
    }

    private static ActorSlot Any(List<ActorSlot> slots, Random random) => slots[random.Next(slots.Count)];

    private static Task<long> HeldAsync(Arena arena, int processId, CancellationToken cancellationToken) => arena.Server.ScalarAsync<long>(
        $"SELECT count(*) FROM outbox.jobs JOIN outbox.workers AS worker ON worker.id = worker_id WHERE process_id = {processId}", cancellationToken);

    private static async Task<bool> IsGoneAsync(Arena arena, int processId, CancellationToken cancellationToken)
    {
        try
        {
            return await arena.Server.ScalarAsync<bool>(
                $"SELECT NOT EXISTS (SELECT FROM outbox.workers WHERE process_id = {processId} AND dead_at IS NULL)", cancellationToken);
        }
        catch (NpgsqlException)
        {
            // The other lane has the server down: it is asked again.
            return false;
        }
    }
}
