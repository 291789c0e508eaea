namespace BackgroundJobs.Outbox;

internal static class EnqueueOptionsCheck
{
    // PostgreSQL's timestamptz reaches farther than .NET, but Npgsql reads the two ends of DateTime as -infinity and infinity:
    // a job at infinity would wait for ever and look scheduled.
    private static readonly DateTimeOffset Earliest = new(1, 1, 2, 0, 0, 0, TimeSpan.Zero);
    private static readonly DateTimeOffset Latest = new(9999, 12, 30, 0, 0, 0, TimeSpan.Zero);

    // A job delayed by more than this is a mistake in a unit, and now() + delay must stay inside PostgreSQL's range.
    private static readonly TimeSpan LongestDelay = TimeSpan.FromDays(365 * 100);

    // PostgreSQL's microsecond.
    private static readonly TimeSpan Shortest = TimeSpan.FromMicroseconds(1);

    public static void Check(string kind, EnqueueOptions options)
    {
        if (options.Queue is { } queue)
            JobName.CheckQueue(queue);
        if (options.Priority is < JobDefaults.FirstPriority or > JobDefaults.LastPriority)
            throw Invalid(kind, $"priority {options.Priority} is out of range", "Use 1 (first) to 4 (last).");
        if (options.MaxAttempts is < 1 or > JobDefaults.MaxMaxAttempts)
            throw Invalid(kind, $"max attempts {options.MaxAttempts} is out of range", $"Use 1 to {JobDefaults.MaxMaxAttempts}.");
        if (options is { RunAt: not null, Delay: not null })
            throw Invalid(kind, "both RunAt and Delay are set", "Set one of them.");
        if (options.RunAt is { } runAt && (runAt < Earliest || runAt > Latest))
            throw Invalid(kind, $"run at {runAt:u} is outside what the database can hold as a moment", "Use a moment of the years 1 to 9999, or leave RunAt null.");
        if (options.Delay is { } delay && (delay < TimeSpan.Zero || delay > LongestDelay))
            throw Invalid(kind, $"delay {delay} is out of range", "Use zero to 100 years.");
        if (options.Group is { } group && JobName.WhyNoGroup(group) is { } fault)
            throw Invalid(kind, $"its group {fault}", $"Use 1 to {JobName.MaxGroup} characters that PostgreSQL can store.");
        if (options.Id == Guid.Empty)
            throw Invalid(kind, "its id is the empty Guid", "Leave Id null, or pass an id of your own.");
        if (options.Unique is { } unique)
            Check(kind, unique, options);
    }

    private static void Check(string kind, UniqueJob unique, EnqueueOptions options)
    {
        if (unique.Key is null or { Length: < 1 or > UniqueJob.MaxKeyLength })
            throw Invalid(kind, $"its unique key has {unique.Key?.Length ?? 0} characters", $"Use 1 to {UniqueJob.MaxKeyLength}; of a longer text, a hash.");
        if (!JobJson.SafeStringConverter.IsStorable(unique.Key))
            throw Invalid(kind, "its unique key holds a NUL or half a surrogate pair, which PostgreSQL cannot store", "Clean the text first.");
        if (unique.Period is { } period && (period < Shortest || period > UniqueJob.LongestPeriod))
            throw Invalid(kind, $"the period {period} of its unique key is out of range", "Use a microsecond to 365 days.");
        if (unique.Max is { } max && (max < unique.Period || max > UniqueJob.LongestPeriod))
            throw Invalid(kind, $"it is to be debounced for {max} at most", $"Use its delay, {unique.Period}, to 365 days.");
        if (unique.SaysWhen && (options.RunAt is not null || options.Delay is not null))
            throw Invalid(kind, "it is debounced, which says when it runs, and RunAt or Delay is set", "Leave them null.");
    }

    private static InvalidJobException Invalid(string kind, string what, string remedy) =>
        new($"Job '{kind}' cannot be enqueued: {what}. {remedy}");
}
