namespace BackgroundJobs.Outbox.TestWorker;

/// <summary>Says that it runs, takes its time, completes.</summary>
public sealed record SlowJob(int Number, int Milliseconds) : IJob
{
    public static string Kind => "slow";
}

/// <summary>The same, with its effect and its completion in one transaction.</summary>
public sealed record EffectJob(int Number, int Milliseconds) : IJob
{
    public static string Kind => "effect";
}

/// <summary>Ends its whole process, without a word.</summary>
public sealed record CrashJob(int Number) : IJob
{
    public static string Kind => "crash";
}

/// <summary>Takes all the memory there is.</summary>
public sealed record HogJob(int Number) : IJob
{
    public static string Kind => "hog";
}

/// <summary>Does its work in steps, with a safe exit point after each.</summary>
public sealed record SteppingJob(int Steps, int MillisecondsEach) : IJob
{
    public static string Kind => "stepping";
}

/// <summary>Hears nothing of its cancellation.</summary>
public sealed record DeafJob(int Milliseconds) : IJob
{
    public static string Kind => "deaf";
}
