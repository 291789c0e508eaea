namespace BackgroundJobs.Outbox;

/// <summary>How jobs of one kind run.</summary>
public sealed class KindOptions
{
    /// <summary>
    /// How long one attempt may take before its token is cancelled; null for no limit. Default: 15 minutes, so that an attempt that hangs
    /// is seen the same day, not at the next deployment.
    /// </summary>
    public TimeSpan? Timeout { get; set; } = TimeSpan.FromMinutes(15);

    /// <summary>What follows a failure. Default: <see cref="RetryPolicy.Default"/>.</summary>
    public RetryPolicy Retry { get; set; } = RetryPolicy.Default;

    /// <summary>What stays of a job that completed. Default: <see cref="HistoryPolicy.Keep"/>.</summary>
    public HistoryPolicy History { get; set; }

    internal void Check(string kind)
    {
        if (Timeout is { } timeout && (timeout <= TimeSpan.Zero || timeout.TotalMilliseconds > int.MaxValue))
            throw new OutboxException($"The timeout of kind '{kind}' is {timeout}: it must be more than zero and at most 24 days. Set it to null for no limit.");
    }
}
