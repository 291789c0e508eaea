namespace BackgroundJobs.Outbox;

/// <summary>The attempt no longer owns its job: its lease ended and another attempt may be running. Nothing of this attempt was written.</summary>
public sealed class LeaseLostException : OutboxException
{
    // What outbox.complete_job raises.
    internal const string SqlState = "OB001";

    /// <summary>An exception without a message, for serialisers.</summary>
    public LeaseLostException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    public LeaseLostException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    /// <param name="innerException">The cause.</param>
    public LeaseLostException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }

    internal static LeaseLostException Of(string job, Exception raised) =>
        new($"{job}: its lease ended, and another attempt may be running. Roll the transaction back; nothing else is to be done.", raised);
}
