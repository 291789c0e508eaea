namespace BackgroundJobs.Outbox.Worker;

// What one slot of a queue runs; null when it waits.
internal sealed class RunningSlot
{
    private volatile Attempt? attempt;

    public Attempt? Attempt
    {
        get => attempt;
        set => attempt = value;
    }
}
