namespace BackgroundJobs.Outbox;

/// <summary>
/// Thrown by <see cref="JobContext.SafeExitPoint{T}"/> when the worker is stopping: let it pass. The job goes back at once, with the
/// cursor saved and no attempt burnt.
/// </summary>
public sealed class JobInterruptedException : OperationCanceledException
{
    /// <summary>An exception with the standard message.</summary>
    public JobInterruptedException()
        : base("The worker is stopping; the job goes back to its queue with its cursor saved.")
    {
    }

    /// <summary>An exception with a message.</summary>
    /// <param name="message">What happened.</param>
    public JobInterruptedException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with a message and a cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">The cause.</param>
    public JobInterruptedException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
