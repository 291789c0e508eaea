namespace BackgroundJobs.Outbox.Postgres;

/// <summary>Something that an operator did.</summary>
public sealed record OperationRow
{
    /// <summary>When, UTC, by the database's clock.</summary>
    public DateTime At { get; init; }

    /// <summary>The database user.</summary>
    public required string Actor { get; init; }

    /// <summary>retry, cancel, delete, pause, resume; set_schedule, pause_schedule, resume_schedule, run_schedule, delete_schedule.</summary>
    public required string Verb { get; init; }

    /// <summary>How many jobs it touched; 0 for a queue or a schedule. More than 1,000 are touched, and noted, in batches.</summary>
    public int Jobs { get; init; }

    /// <summary>Which were meant: the filter's properties that were set, of ids the first hundred, and the reason. JSON.</summary>
    public required string What { get; init; }
}
