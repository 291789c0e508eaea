namespace BackgroundJobs.Outbox;

/// <summary>Something the outbox refuses or cannot do. The message says what, why, and what to do.</summary>
public class OutboxException : Exception
{
    /// <summary>An exception without a message, for serialisers.</summary>
    public OutboxException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    public OutboxException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    /// <param name="innerException">The cause.</param>
    public OutboxException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
