namespace BackgroundJobs.Outbox.Testing;

/// <summary>How a <see cref="PostgresServer"/> is started. A server given by <c>OUTBOX_CONNECTION</c> is taken as it is.</summary>
public sealed class PostgresServerOptions
{
    /// <summary>
    /// Whether a commit survives a crash of the machine (fsync, full_page_writes, synchronous_commit). Default false: the data of a test
    /// is thrown away, and waiting for the disk is most of what a small test does. Set it for crash tests and for every number you publish.
    /// </summary>
    public bool Durable { get; set; }

    /// <summary>How many connections the server allows. Default 200: PostgreSQL's own 100 is soon used up by pools of parallel tests.</summary>
    public int MaxConnections { get; set; } = 200;

    /// <summary>
    /// How long making and starting the server may take, not counting the one download of the embedded one. Default 60 seconds:
    /// 2 are usual, but a build machine that compiles at the same time is slow.
    /// </summary>
    public TimeSpan StartTimeout { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>The one way to get a server. Default null: the environment variable <c>OUTBOX_POSTGRES</c>, else all ways in order.</summary>
    public PostgresWay? Way { get; set; }

    /// <summary>Further server settings by name, as in postgresql.conf, e.g. <c>["log_statement"] = "all"</c>. They win over the above.</summary>
    public IDictionary<string, string> Settings { get; } = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
}
