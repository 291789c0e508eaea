namespace BackgroundJobs.Outbox.Postgres;

/// <summary>What a cancel did.</summary>
/// <param name="Ended">Jobs that waited; they are in the history as cancelled.</param>
/// <param name="Asked">Jobs that run; their handlers' tokens are cancelled with their worker's next beat, and how they end is up to them.</param>
public sealed record CancelledJobs(int Ended, int Asked);
