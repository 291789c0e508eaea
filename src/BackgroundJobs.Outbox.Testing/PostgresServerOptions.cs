namespace BackgroundJobs.Outbox.Testing;

/// <summary>How a throwaway server is to be. Does not apply to a server that <c>OUTBOX_CONNECTION</c> names.</summary>
public sealed class PostgresServerOptions
{
    /// <summary>
    /// Whether commits reach the disk. Default: false: tests come and go, and fsync is most of their time. True for what is measured or
    /// killed on purpose.
    /// </summary>
    public bool Durable { get; set; }

    /// <summary>Largest number of connections. Default: 200, for many tests at a time with a pool each.</summary>
    public int MaxConnections { get; set; } = 200;

    /// <summary>Further settings of postgresql.conf, by name.</summary>
    public IDictionary<string, string> Settings { get; } = new Dictionary<string, string>(StringComparer.Ordinal);

    /// <summary>How long a start may take. Default: 60 s, which also holds on a busy build machine.</summary>
    public TimeSpan StartTimeout { get; set; } = TimeSpan.FromSeconds(60);
}
