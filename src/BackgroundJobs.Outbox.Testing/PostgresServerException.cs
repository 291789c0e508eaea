namespace BackgroundJobs.Outbox.Testing;

/// <summary>No PostgreSQL could be had, or it refused what a test asked of it. The message lists what was tried and what to do.</summary>
public sealed class PostgresServerException : OutboxException
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
