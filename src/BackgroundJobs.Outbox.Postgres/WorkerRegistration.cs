namespace BackgroundJobs.Outbox.Postgres;

// One incarnation of a worker process. Queues as JSON for people: {"default": 10}.
internal sealed record WorkerRegistration(
    Guid Id, string Name, string Host, int ProcessId, string Version, TimeSpan Lease, string Queues, string[] Kinds);
