namespace BackgroundJobs.Outbox;

/// <summary>The database has no outbox schema, or one that this version cannot work with.</summary>
public sealed class OutboxSchemaException : OutboxException
{
    /// <summary>An exception without a message, for serialisers.</summary>
    public OutboxSchemaException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    public OutboxSchemaException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    /// <param name="innerException">The cause.</param>
    public OutboxSchemaException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
