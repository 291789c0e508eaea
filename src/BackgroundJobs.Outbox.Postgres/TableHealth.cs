namespace BackgroundJobs.Outbox.Postgres;

/// <summary>How one of our tables is, and who holds back vacuum the most.</summary>
public sealed record TableHealth
{
    /// <summary>The table, or the history partition of a day.</summary>
    public required string TableName { get; init; }

    /// <summary>Rows, estimated.</summary>
    public required long LiveRows { get; init; }

    /// <summary>Dead row versions, estimated: what vacuum has not removed yet.</summary>
    public required long DeadRows { get; init; }

    /// <summary>Bytes of the table.</summary>
    public required long TableBytes { get; init; }

    /// <summary>Bytes of its indexes.</summary>
    public required long IndexBytes { get; init; }

    /// <summary>Last vacuum of either sort, UTC.</summary>
    public DateTime? LastVacuum { get; init; }

    /// <summary>Last analyze of either sort, UTC.</summary>
    public DateTime? LastAnalyze { get; init; }

    /// <summary>Age of its oldest transaction id, in transactions.</summary>
    public required long FrozenAge { get; init; }

    /// <summary>How many transactions back the oldest snapshot of the server reaches; null when nobody holds one.</summary>
    public long? HeldXids { get; init; }

    /// <summary>How long its transaction is open.</summary>
    public TimeSpan? HeldFor { get; init; }

    /// <summary>Who holds it: a session and its query, a replication slot, or a prepared transaction.</summary>
    public string? Holder { get; init; }
}
