namespace BackgroundJobs.Outbox;

/// <summary>What stays of a job that completed. What died or was cancelled is always kept whole.</summary>
public enum HistoryPolicy
{
    /// <summary>The whole row (default): people ask first what a job did.</summary>
    Keep,

    /// <summary>The row without its arguments: personal data, or many large jobs.</summary>
    WithoutArgs,

    /// <summary>Nothing: for the most frequent jobs, where the write of the history is a cost.</summary>
    None,
}
