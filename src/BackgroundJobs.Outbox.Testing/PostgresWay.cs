namespace BackgroundJobs.Outbox.Testing;

/// <summary>Where a <see cref="PostgresServer"/> comes from, in the order in which the ways are tried.</summary>
public enum PostgresWay
{
    /// <summary>A server that runs already: the connection string in <c>OUTBOX_CONNECTION</c>. It is neither started nor stopped.</summary>
    Given,

    /// <summary>A throwaway cluster of the PostgreSQL programs on this machine.</summary>
    Installed,

    /// <summary>A throwaway cluster of an embedded PostgreSQL, fetched once with npm and kept in the user's cache folder.</summary>
    Embedded,

    /// <summary>A throwaway container.</summary>
    Docker,
}
