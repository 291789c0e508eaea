namespace BackgroundJobs.Outbox.Chaos.Actors;

/// <summary>Returns. Its end is recorded by the worker.</summary>
internal sealed record PlainJob : IJob
{
    public static string Kind => "chaos.plain";
}

/// <summary>As <see cref="PlainJob"/>, and nothing is remembered of it.</summary>
internal sealed record BriefJob : IJob
{
    public static string Kind => "chaos.brief";
}

/// <summary>
/// Calls another system, works for a while, then saves an effect and its completion in one COMMIT, and in that adds another job alongside itself if it
/// <paramref name="Grows"/>. Deaf to cancellation: a zombie writes.
/// </summary>
internal sealed record EffectJob(int Milliseconds, bool Grows = false) : IJob
{
    public static string Kind => "chaos.effect";
}

/// <summary>Its arguments hold a key that the database made in the same transaction.</summary>
internal sealed record LateJob(long EntityId, Guid Operation) : IJob
{
    public static string Kind => "chaos.late";
}

/// <summary>Throws this many times, then returns.</summary>
internal sealed record FlakyJob(int Failures) : IJob
{
    public static string Kind => "chaos.flaky";
}

/// <summary>Throws until it is dead.</summary>
internal sealed record HopelessJob : IJob
{
    public static string Kind => "chaos.hopeless";

    public static EnqueueOptions Defaults => new() { MaxAttempts = 2 };
}

/// <summary>Kills its process at its first attempt.</summary>
internal sealed record CrashJob : IJob
{
    public static string Kind => "chaos.crash";
}

/// <summary>Snoozes twice, then returns.</summary>
internal sealed record SnoozeJob : IJob
{
    public static string Kind => "chaos.snooze";
}

/// <summary>Takes longer than a lease, by this many hundredths of one, and hears its cancellation.</summary>
internal sealed record LongJob(int Hundredths) : IJob
{
    public static string Kind => "chaos.long";
}

/// <summary>Of a group: works for a while and hears its cancellation, throws this many times, and may ask its group to wait at its first attempt.</summary>
internal sealed record GroupJob(int Milliseconds, int Failures, bool IsPushedBack) : IJob
{
    public static string Kind => "chaos.group";
}

/// <summary>Of a key, one that waits is enough.</summary>
internal sealed record WaitingOnceJob(int Milliseconds) : IJob
{
    public static string Kind => "chaos.once.waiting";
}

/// <summary>Of a key, one that has not ended is enough.</summary>
internal sealed record UnfinishedOnceJob(int Milliseconds) : IJob
{
    public static string Kind => "chaos.once.unfinished";
}

/// <summary>Of a key, the newest that waits is enough.</summary>
internal sealed record NewestOnceJob(int Milliseconds) : IJob
{
    public static string Kind => "chaos.once.newest";
}

/// <summary>Of the schedule that ticks each second.</summary>
internal sealed record TickJob : IJob
{
    public static string Kind => "chaos.tick";
}
