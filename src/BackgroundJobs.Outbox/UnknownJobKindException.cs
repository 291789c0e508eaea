namespace BackgroundJobs.Outbox;

/// <summary>A kind without a handler in an application that has handlers. Nothing was written.</summary>
public sealed class UnknownJobKindException : OutboxException
{
    /// <summary>An exception without a message, for serialisers.</summary>
    public UnknownJobKindException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    public UnknownJobKindException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    /// <param name="innerException">The cause.</param>
    public UnknownJobKindException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
