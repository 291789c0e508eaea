namespace BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;

internal sealed record BootServer(long ServerId) : IJob
{
    public static string Kind => "boot_server";
}

internal sealed record Told(string Text) : IJob
{
    public static string Kind => "told";
}

internal sealed record Keyed(Guid Id) : IJob
{
    public static string Kind => "keyed";
}
