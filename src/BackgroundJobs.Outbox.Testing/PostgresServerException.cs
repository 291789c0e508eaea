namespace BackgroundJobs.Outbox.Testing;

/// <summary>No PostgreSQL was found or could be started. The message lists the ways, and why each failed.</summary>
public sealed class PostgresServerException : Exception
{
    /// <summary>An exception without a message, for serialisers.</summary>
    public PostgresServerException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    public PostgresServerException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    /// <param name="innerException">The cause.</param>
    public PostgresServerException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
