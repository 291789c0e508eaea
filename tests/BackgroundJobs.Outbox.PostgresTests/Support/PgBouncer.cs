using BackgroundJobs.Outbox.Chaos.Server;

namespace BackgroundJobs.Outbox.PostgresTests.Support;

internal static class PgBouncer
{
    public static Task<Pooler> StartAsync(string server)
    {
        Assert.SkipWhen(Pooler.Program is null, "PgBouncer is not installed (apt-get install pgbouncer).");
        return Pooler.StartAsync(server, poolSize: 3);
    }
}
