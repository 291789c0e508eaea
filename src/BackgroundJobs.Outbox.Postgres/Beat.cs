namespace BackgroundJobs.Outbox.Postgres;

// What a heartbeat learned.
internal sealed record Beat(
    DateTime Now, bool SomeoneDied, IReadOnlyList<Guid> Cancelled, bool CancelledWaits, IReadOnlyList<string> Suspects, DateTime? NextDue);
