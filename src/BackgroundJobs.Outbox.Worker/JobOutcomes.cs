namespace BackgroundJobs.Outbox.Worker;

// What happened to an attempt, as an outcome. The only place where an exception becomes one.
internal static class JobOutcomes
{
    public static JobOutcome OfReturn(Attempt attempt, JobContext context)
    {
        if (context.Completion.Requested)
            return context.Completion.Confirmed ? JobOutcome.Recorded : OfUnconfirmed(attempt);
        return context.Chosen ?? JobOutcome.Completed;
    }

    public static JobOutcome OfException(Attempt attempt, JobContext? context, Exception exception)
    {
        if (context is { Completion.Confirmed: true })
            return JobOutcome.Recorded;

        // Nothing of it was written, and whatever is recorded for it will be fenced off: its next attempt is on its way already.
        if (exception is LeaseLostException)
            return JobOutcome.Released;
        if (exception is JobInterruptedException && context is { IsStopping: true })
            return JobOutcome.Released;
        if (exception is OperationCanceledException && attempt.Reason != CancelReason.None)
            return OfCancel(attempt, exception);
        return Decide(attempt, exception);
    }

    public static JobOutcome OfGivenUp(Attempt attempt, OutboxWorkerOptions options) => OfCancel(attempt, new TimeoutException(
        $"The handler did not end within {options.CancellationGrace} of its cancellation ({attempt.Reason}). It was given up; pass the token on in it."));

    private static JobOutcome OfCancel(Attempt attempt, Exception exception) => attempt.Reason switch
    {
        CancelReason.Operator => JobOutcome.Cancelled(JobError.Of("cancelled", "Cancelled by an operator while it ran.")),
        CancelReason.Timeout => Decide(attempt, new TimeoutException(
            $"The attempt took longer than the {attempt.Registration.Options.Timeout} its kind may take. Make it faster, split it, or raise KindOptions.Timeout.", exception)),
        _ => JobOutcome.Released,
    };

    // The handler returned, but nobody saw its transaction commit. Fenced like everything: if it did commit, this changes nothing.
    private static JobOutcome OfUnconfirmed(Attempt attempt) => Decide(attempt, new InvalidOperationException(
        "The handler returned, but the transaction that was to complete the job was not committed, so its effect is not there either. Save and commit before returning."));

    private static JobOutcome Decide(Attempt attempt, Exception exception) =>
        attempt.Registration.Options.Retry.Decide(attempt.Job.Failures + 1, attempt.Job.MaxAttempts, exception);
}
