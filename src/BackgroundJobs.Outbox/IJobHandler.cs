namespace BackgroundJobs.Outbox;

/// <summary>Runs jobs of one kind. Made anew from the container, in its own scope, for each attempt.</summary>
/// <typeparam name="TJob">The arguments of the job.</typeparam>
public interface IJobHandler<in TJob>
    where TJob : IJob
{
    /// <summary>
    /// Does the work of one attempt. A job runs at least once: an attempt may be cut off anywhere by a crash and run again, unless
    /// its effect is saved in one transaction with its completion (<c>context.CompleteWith(db)</c>).
    /// </summary>
    /// <param name="job">The arguments, read from JSON.</param>
    /// <param name="context">Which job and attempt this is, and how to end it otherwise than by returning or throwing.</param>
    /// <param name="cancellationToken">
    /// Cancelled when the attempt must end: timeout, an operator's cancel, the end of a graceful stop, or a lease that could not be kept.
    /// </param>
    /// <returns>A task. Its normal end completes the job; an exception is a failure and the retry policy decides.</returns>
    Task HandleAsync(TJob job, JobContext context, CancellationToken cancellationToken);
}
