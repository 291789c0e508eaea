namespace BackgroundJobs.Outbox.Benchmarks.Roles;

internal sealed record Noop(int Id) : IJob
{
    public static string Kind => "noop";
}

internal sealed record NoopOf(long Id) : IJob
{
    public static string Kind => "noop_of";
}
