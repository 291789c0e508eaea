namespace BackgroundJobs.Outbox.Worker;

// Set by many, awaited by one; being set twice is being set once.
internal sealed class WakeSignal : IDisposable
{
    private readonly SemaphoreSlim signal = new(0, 1);
    private int isSet;

    public void Set()
    {
        if (Interlocked.Exchange(ref isSet, 1) == 0)
            signal.Release();
    }

    public async Task WaitAsync()
    {
        await signal.WaitAsync().ConfigureAwait(false);
        Volatile.Write(ref isSet, 0);
    }

    public async Task WaitAsync(TimeSpan atMost)
    {
        if (await signal.WaitAsync(atMost > TimeSpan.Zero ? atMost : TimeSpan.Zero).ConfigureAwait(false))
            Volatile.Write(ref isSet, 0);
    }

    public void Dispose() => signal.Dispose();
}
