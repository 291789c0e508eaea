namespace BackgroundJobs.Outbox.Postgres;

// What a statement of Sql/Admin says about a job it changed.
internal sealed record TouchedJob
{
    public Guid Id { get; init; }

    public string Queue { get; init; } = "";

    // Of a job that waited: others of its group may have waited for it.
    public string? JobGroup { get; init; }

    public DateTime RunAt { get; init; }

    public bool Claimed { get; init; }

    public Guid? WorkflowId { get; init; }

    // Blocked until it was compared with the others of its unique key.
    public bool IsUnsettled { get; init; }
}
