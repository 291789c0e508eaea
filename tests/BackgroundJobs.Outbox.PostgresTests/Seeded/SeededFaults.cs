using System.Collections.Concurrent;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Seeded;

// Decides by a seed what happens to the n-th statement of each name: nothing, a failure, or a delay. The threads' turns are the machine's; which
// statement meets what is the seed's alone.
internal sealed class SeededFaults(int seed, TimeSpan lease)
{
    private readonly ConcurrentDictionary<string, int> hits = new();
    private int injected;

    public enum Fault
    {
        None,
        Failure,
        Late,

        // Longer than a lease.
        VeryLate,
    }

    public int Injected => Volatile.Read(ref injected);

    public static Fault Decide(int seed, string point, int number)
    {
        // Not HashCode nor string's own, which differ from process to process.
        var hash = point.Aggregate(unchecked((uint)seed * 2654435761), (before, letter) => unchecked((before ^ letter) * 16777619));
        return new Random(unchecked((int)(hash ^ ((uint)number * 2246822519)))).Next(100) switch
        {
            < 10 => Fault.Failure,
            < 20 => Fault.Late,
            20 => Fault.VeryLate,
            _ => Fault.None,
        };
    }

    public async Task AtAsync(string point)
    {
        var number = hits.AddOrUpdate(point, 1, (_, before) => before + 1);
        var fault = Decide(seed, point, number);
        if (fault == Fault.None)
            return;
        Interlocked.Increment(ref injected);
        if (fault == Fault.Failure)
            throw new NpgsqlException($"injected: {point} {number}", new IOException("injected"));
        var delay = fault == Fault.Late ? lease / 20 : lease * 1.3;
        await Task.Delay(delay, TimeProvider.System).ConfigureAwait(false);
    }
}
