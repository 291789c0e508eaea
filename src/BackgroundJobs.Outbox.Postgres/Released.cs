namespace BackgroundJobs.Outbox.Postgres;

// Jobs of one queue that can be claimed again or anew, and their groups ("" for those without one).
internal readonly record struct Released(JobHint Hint, long Jobs, string[] Groups);
