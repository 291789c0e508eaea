namespace BackgroundJobs.Outbox.PostgresTests.Support;

internal sealed record NumberJob(int Number) : IJob
{
    public static string Kind => "number";
}

internal sealed record OtherJob(string Text) : IJob
{
    public static string Kind => "other";
}
