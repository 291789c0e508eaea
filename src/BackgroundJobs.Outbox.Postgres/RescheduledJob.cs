namespace BackgroundJobs.Outbox.Postgres;

// A claimed job that goes back to its queue. Delay null: as due as it was.
internal readonly record struct RescheduledJob(ClaimedJob Job, TimeSpan? Delay, bool Failed, JobError? Error, string? Cursor, bool PushesBack = false);
