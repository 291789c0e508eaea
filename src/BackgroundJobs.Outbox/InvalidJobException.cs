namespace BackgroundJobs.Outbox;

/// <summary>A job that cannot be enqueued as it is: bad options, arguments that do not serialise or are too large. Nothing was written.</summary>
public sealed class InvalidJobException : OutboxException
{
    // What the trigger on outbox.jobs raises about a job's parents.
    internal const string SqlState = "OB002";

    /// <summary>An exception without a message, for serialisers.</summary>
    public InvalidJobException()
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    public InvalidJobException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened, why, and what to do.</param>
    /// <param name="innerException">The cause.</param>
    public InvalidJobException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }

    internal static InvalidJobException Of(string job, string? whatToDo, Exception raised) => new($"{job}. Nothing was written. {whatToDo}", raised);
}
