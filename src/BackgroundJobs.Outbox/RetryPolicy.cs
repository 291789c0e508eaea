namespace BackgroundJobs.Outbox;

/// <summary>
/// How long a job waits after a failure. Immutable. Default: <see cref="Exponential"/>. Whether it may run again at all is also bounded by
/// <see cref="EnqueueOptions.MaxAttempts"/>.
/// </summary>
public sealed class RetryPolicy
{
    private readonly Func<int, TimeSpan?> delay;
    private readonly Rule[] rules;

    private RetryPolicy(Func<int, TimeSpan?> delay, params Rule[] rules)
    {
        this.delay = delay;
        this.rules = rules;
    }

    /// <summary>
    /// 1 s, 2 s, 4 s, ... up to 1 h, each shortened at random by up to a fifth: a mended dependency is met soon, a broken one is not
    /// hammered, and jobs that failed together do not come back together.
    /// </summary>
    public static RetryPolicy Default { get; } = Exponential();

    /// <summary>No second attempt: the first failure is the last.</summary>
    public static RetryPolicy None { get; } = new(_ => null);

    /// <summary>Each delay is <paramref name="factor"/> times the one before.</summary>
    /// <param name="first">After the first failure. Default: 1 s.</param>
    /// <param name="factor">1 or more. Default: 2.</param>
    /// <param name="cap">No delay is longer. Default: 1 h.</param>
    /// <param name="jitter">0 to 1: up to this share is taken off at random. Default: 0.2.</param>
    /// <returns>The policy.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A value outside these bounds.</exception>
    public static RetryPolicy Exponential(TimeSpan? first = null, double factor = 2, TimeSpan? cap = null, double jitter = 0.2)
    {
        var (start, limit) = (first ?? TimeSpan.FromSeconds(1), cap ?? TimeSpan.FromHours(1));
        ArgumentOutOfRangeException.ThrowIfLessThan(start, TimeSpan.Zero, nameof(first));
        ArgumentOutOfRangeException.ThrowIfLessThan(limit, TimeSpan.Zero, nameof(cap));
        ArgumentOutOfRangeException.ThrowIfLessThan(factor, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(jitter, 0);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(jitter, 1);

        // In doubles, so that the 1000th failure overflows to infinity and is capped, not to a negative tick. Zero times infinity is no number.
        if (start == TimeSpan.Zero)
            return Fixed(TimeSpan.Zero);
        return new(failures => TimeSpan.FromMilliseconds(
            Math.Min(start.TotalMilliseconds * Math.Pow(factor, failures - 1), limit.TotalMilliseconds) * (1 - (jitter * Random.Shared.NextDouble()))));
    }

    /// <summary>Always the same delay.</summary>
    /// <param name="delay">Zero or more.</param>
    /// <returns>The policy.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A negative delay.</exception>
    public static RetryPolicy Fixed(TimeSpan delay)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(delay, TimeSpan.Zero);
        return new(_ => delay);
    }

    /// <summary>These delays, one after the other; after the last one the job is dead.</summary>
    /// <param name="delays">One or more, each zero or more.</param>
    /// <returns>The policy.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A negative delay.</exception>
    public static RetryPolicy Delays(params TimeSpan[] delays)
    {
        foreach (var each in delays)
            ArgumentOutOfRangeException.ThrowIfLessThan(each, TimeSpan.Zero, nameof(delays));
        TimeSpan[] own = [.. delays];
        return new(failures => failures <= own.Length ? own[failures - 1] : null);
    }

    /// <summary>The same policy, with another one for this exception. The rule added last is asked first.</summary>
    /// <typeparam name="TException">The exception or one derived from it; also looked for among the inner ones.</typeparam>
    /// <param name="policy">What holds for it: for example <see cref="None"/> for what will never succeed.</param>
    /// <param name="condition">Only if this holds. Default: always.</param>
    /// <returns>The new policy.</returns>
    public RetryPolicy When<TException>(RetryPolicy policy, Func<TException, bool>? condition = null)
        where TException : Exception => new(delay, [new(Matches(condition), policy), .. rules]);

    /// <summary>The same policy, but this exception cancels the job: nothing is wrong, there is only nothing to do.</summary>
    /// <typeparam name="TException">The exception or one derived from it; also looked for among the inner ones.</typeparam>
    /// <param name="condition">Only if this holds. Default: always.</param>
    /// <returns>The new policy.</returns>
    public RetryPolicy CancelWhen<TException>(Func<TException, bool>? condition = null)
        where TException : Exception => new(delay, [new(Matches(condition), null), .. rules]);

    /// <summary>What follows a failure.</summary>
    /// <param name="failures">How often the job has failed, this time included: 1 or more.</param>
    /// <param name="maxAttempts">How often it may.</param>
    /// <param name="exception">What failed it.</param>
    /// <returns>Retry, dead or cancelled.</returns>
    public JobOutcome Decide(int failures, int maxAttempts, Exception exception)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(failures, 1);
        var error = JobError.From(exception);
        foreach (var rule in rules)
        {
            if (!rule.Applies(exception))
                continue;
            return rule.Policy is null ? JobOutcome.Cancelled(error) : rule.Policy.Decide(failures, maxAttempts, exception);
        }

        return failures < maxAttempts && delay(failures) is { } wait ? JobOutcome.RetryAfter(wait, error) : JobOutcome.Dead(error);
    }

    private static Func<Exception, bool> Matches<TException>(Func<TException, bool>? condition)
        where TException : Exception => exception =>
    {
        for (var each = exception; each is not null; each = each.InnerException)
        {
            if (each is TException match && (condition is null || condition(match)))
                return true;
        }

        return false;
    };

    private sealed record Rule(Func<Exception, bool> Applies, RetryPolicy? Policy);
}
