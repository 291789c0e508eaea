using System.Diagnostics;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Faults;

// Carries a plan out: two lanes, each one fault after the other, until the time is over.
internal sealed class Nemesis(Arena arena, TimeSpan duration)
{
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1.5);
    private readonly List<InjectedFault> injected = [];
    private readonly long begin = Stopwatch.GetTimestamp();

    public IReadOnlyList<InjectedFault> Injected => injected;

    public Task RunAsync(Action<InjectedFault> said, CancellationToken cancellationToken) => Task.WhenAll(
        LaneAsync(AllFaults.OfActors(arena), arena.Options.Seed, said, cancellationToken),
        LaneAsync(AllFaults.OfTheDatabase(arena), ~arena.Options.Seed, said, cancellationToken));

    // Every family once in the seed's order, then all again in another one: a short run has most of them, a long one all in many meetings.
    private async Task LaneAsync(IReadOnlyList<Fault> families, int seed, Action<InjectedFault> said, CancellationToken cancellationToken)
    {
        var random = new Random(seed);
        while (true)
        {
            var order = families.ToArray();
            random.Shuffle(order);
            foreach (var fault in order)
            {
                var (pause, own) = (LongestPause * random.NextDouble(), new Random(random.Next()));
                await Task.Delay(pause, TimeProvider.System, cancellationToken);
                if (Stopwatch.GetElapsedTime(begin) > duration)
                    return;
                var result = await InjectAsync(fault, own, cancellationToken);
                lock (injected)
                    injected.Add(result);
                said(result);
            }
        }
    }

    private async Task<InjectedFault> InjectAsync(Fault fault, Random random, CancellationToken cancellationToken)
    {
        var at = Stopwatch.GetElapsedTime(begin);
        string? effect = null, error = null;
        try
        {
            effect = await fault.InjectAsync(arena, random, cancellationToken);
        }
        catch (Exception e) when (e is NpgsqlException or InvalidOperationException or IOException or TimeoutException)
        {
            // The other lane's fault stood in its way.
            error = $"{e.GetType().Name}: {e.Message}";
        }

        return new(fault.Name, at, Stopwatch.GetElapsedTime(begin) - at, effect, error);
    }
}
