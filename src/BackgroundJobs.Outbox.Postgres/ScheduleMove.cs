namespace BackgroundJobs.Outbox.Postgres;

// The jobs that a schedule's ticks enqueue now, how far it is dealt with then, and when it ticks next; null: never again.
internal sealed record ScheduleMove(DueSchedule Schedule, IReadOnlyList<(DateTime At, Guid Id, string Args)> Ticks, DateTime? MovedTo, DateTime? Next);
