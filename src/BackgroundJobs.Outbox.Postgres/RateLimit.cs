namespace BackgroundJobs.Outbox.Postgres;

/// <summary>
/// How many jobs may start in any stretch of time of one length, on all workers together. It may be up to four percent fewer: starts are kept by
/// fiftieths of the period, and rounded to the safe side.
/// </summary>
/// <param name="Jobs">How many: 1 to 1,000,000.</param>
/// <param name="Period">How long: a second to 31 days.</param>
public sealed record RateLimit(int Jobs, TimeSpan Period);
