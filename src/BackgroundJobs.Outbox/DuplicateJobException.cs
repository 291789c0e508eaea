namespace BackgroundJobs.Outbox;

/// <summary>A job with this id is in the database already. Nothing was written.</summary>
public sealed class DuplicateJobException : OutboxException
{
    /// <summary>An exception without a message, for serialisers.</summary>
    public DuplicateJobException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    public DuplicateJobException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    /// <param name="innerException">The cause.</param>
    public DuplicateJobException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
