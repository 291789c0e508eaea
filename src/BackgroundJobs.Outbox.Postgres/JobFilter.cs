namespace BackgroundJobs.Outbox.Postgres;

/// <summary>Which jobs an operator means: all that is set must hold. Nothing set means every job, which some verbs refuse.</summary>
/// <remarks>A text that holds a NUL or half a surrogate pair is refused by every verb, with an <see cref="OutboxException"/>.</remarks>
public sealed record JobFilter
{
    /// <summary>Every job, said on purpose: what cancel and delete want to hear before they touch everything.</summary>
    public static JobFilter Everything { get; } = new() { OnPurpose = true };

    /// <summary>In one of these states. Default: all that the verb can act on.</summary>
    public IReadOnlyCollection<JobState>? States { get; init; }

    /// <summary>In this queue.</summary>
    public string? Queue { get; init; }

    /// <summary>Of this kind.</summary>
    public string? Kind { get; init; }

    /// <summary>Of this group, in whatever queue.</summary>
    public string? Group { get; init; }

    /// <summary>Of this workflow.</summary>
    public Guid? WorkflowId { get; init; }

    /// <summary>One of these jobs.</summary>
    public IReadOnlyCollection<Guid>? Ids { get; init; }

    /// <summary>Enqueued at this moment or later.</summary>
    public DateTimeOffset? CreatedAfter { get; init; }

    /// <summary>Enqueued before this moment.</summary>
    public DateTimeOffset? CreatedBefore { get; init; }

    /// <summary>Finished at this moment or later; no unfinished job.</summary>
    public DateTimeOffset? FinishedAfter { get; init; }

    /// <summary>Finished before this moment; no unfinished job.</summary>
    public DateTimeOffset? FinishedBefore { get; init; }

    /// <summary>With this text, in any case, in the type or message of one of the errors that were kept with it.</summary>
    public string? ErrorContains { get; init; }

    internal bool OnPurpose { get; private init; }

    internal bool IsEmpty => this == new JobFilter();

    internal bool MeansUnfinished => FinishedAfter is null && FinishedBefore is null;
}
