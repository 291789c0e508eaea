namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// How many run at a time, and the most that ever did.
internal sealed class Gauge
{
    private readonly Lock gate = new();
    private int running;

    public int Most { get; private set; }

    public async Task RunAsync(Func<Task> work)
    {
        lock (gate)
            Most = Math.Max(Most, ++running);
        await work();
        lock (gate)
            running--;
    }
}
